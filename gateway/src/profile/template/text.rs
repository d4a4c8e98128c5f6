//! Text with holes.

use std::sync::Arc;

use super::{Expression, RenderError, Scope, TemplateError, expression::Inset, language};

/// Text with holes, such as `Hello {{ data.name }}`.
#[derive(Debug)]
pub(in crate::profile) struct Text(Vec<Part>);

#[derive(Debug)]
pub(super) enum Part {
    Literal(Box<str>),
    Hole(Expression),
}

impl Text {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with one of its holes.
    pub(in crate::profile) fn compile(source: &str) -> Result<Self, TemplateError> {
        if source.contains("{%") || source.contains("{#") {
            return Err(TemplateError(
                "templates have no statements: write expressions in `{{ … }}`".to_owned(),
            ));
        }
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((literal, hole)) = rest.split_once("{{") {
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            let end =
                hole_end(hole).ok_or_else(|| TemplateError("a `{{` has no `}}`".to_owned()))?;
            parts.push(Part::Hole(Expression::compile(&hole[..end])?));
            rest = &hole[end + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(Self(parts))
    }

    /// The parts in their order.
    #[must_use]
    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The expressions.
    pub(in crate::profile) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter().filter_map(|part| match part {
            Part::Hole(expression) => Some(expression),
            Part::Literal(_) => None,
        })
    }

    /// The text, if it has no holes.
    #[must_use]
    pub(in crate::profile) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The expression, if the text is nothing but one.
    ///
    /// # Errors
    /// It is not; then it comes back.
    pub(in crate::profile) fn into_whole(mut self) -> Result<Expression, Self> {
        match (self.0.pop(), self.0.is_empty()) {
            (Some(Part::Hole(expression)), true) => Ok(expression),
            (last, _) => {
                self.0.extend(last);
                Err(self)
            }
        }
    }

    /// The text with its holes filled; `None` where a hole wants it to be left out.
    ///
    /// # Errors
    /// A hole has no value that can stand in a text, or the text would be too large.
    pub(in crate::profile) fn render(
        &self,
        scope: &Arc<Scope>,
    ) -> Result<Option<String>, RenderError> {
        self.fill(scope, |Inset { text, .. }| Ok(text))
    }

    /// The same, where `check` may change what a hole is filled with.
    pub(super) fn fill(
        &self,
        scope: &Arc<Scope>,
        mut check: impl FnMut(Inset) -> Result<Arc<str>, RenderError>,
    ) -> Result<Option<String>, RenderError> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Hole(expression) => {
                    let Some(inset) = expression.text(scope)? else { return Ok(None) };
                    out.push_str(&check(inset)?);
                }
            }
            if out.len() > scope.limit() {
                return Err(RenderError::TooLarge);
            }
        }
        Ok(Some(out))
    }
}

/// Where the braces close: not in quotes, nor those of an object.
fn hole_end(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(char) = text[at..].chars().next() {
        match char {
            '"' | '\'' => {
                at += language::quoted(&text[at..], char);
                continue;
            }
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' if text[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
        at += char.len_utf8();
    }
    None
}
