//! What somebody may have meant who wrote a name wrong.

/// Edits (of one character) up to which a name counts as a slip of another.
const SLIP: usize = 2;

/// The candidate that is the fewest edits away from `name`, if it is near at all.
pub(super) fn nearest(
    name: &str,
    candidates: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= SLIP && 2 * distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, the table's last row at a time.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, b) in to.chars().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let near = |name| nearest(name, ["channel", "echo", "id", "event"].into_iter());
        assert_eq!(near("chanel"), Some("channel"));
        assert_eq!(near("Channels"), Some("channel"));
        assert_eq!(near("eco"), Some("echo"));
        assert_eq!(near("ix"), None);
        assert_eq!(near("payload"), None);
        assert_eq!(near(""), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
