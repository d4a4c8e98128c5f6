//! Where in the configuration a value stands, such as `auth.keys[0].kid`.

use std::fmt;

/// A place in the configuration; without steps, all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) Vec<Step>);

/// One step from a table or list into what it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The entry of a table.
    Name(String),
    /// The element of a list.
    Index(usize),
}

impl Key {
    /// The place of an entry in the table that stands here.
    #[must_use]
    pub(crate) fn entry(&self, name: &str) -> Self {
        self.then(Step::Name(name.to_owned()))
    }

    /// The place of an element in the list that stands here.
    #[must_use]
    pub(crate) fn element(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    /// What this place is in, up to all of the configuration.
    #[must_use]
    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl From<&str> for Key {
    /// Reads what [`Key`]'s `Display` writes; meant for keys that stand in the code.
    fn from(text: &str) -> Self {
        let mut key = Self::default();
        for part in text.split('.') {
            let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
                Some((name, index)) => (name, index.parse().ok()),
                None => (part, None),
            };
            key = key.entry(name);
            if let Some(index) = index {
                key = key.element(index);
            }
        }
        key
    }
}

impl From<&serde_path_to_error::Path> for Key {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        let steps = path.iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(Step::Name(key.clone())),
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        Self(steps.collect())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) if index == 0 => f.write_str(name)?,
                Step::Name(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
