//! Payloads: values of a profile whose texts are templates.

use std::sync::Arc;

use broker_core::Data;
use bytes::Bytes;

use super::{Expression, RenderError, Scope, Text, write};

/// A payload with holes.
#[derive(Debug)]
pub(in crate::profile) enum Tree {
    /// JSON without holes.
    Constant(Bytes),
    /// A text that is one hole: the value itself.
    Whole(Expression),
    /// A text with holes.
    Text(Text),
    /// Members, their names in quotes and with a colon.
    Object(Vec<(Bytes, Self)>),
    /// Elements.
    Array(Vec<Self>),
    /// A list made of another: for each `item`, the tree.
    ForEach(Expression, Box<Self>),
}

impl Tree {
    /// A list; without holes, as a constant.
    pub(in crate::profile) fn array(elements: Vec<Self>) -> Self {
        let constant = elements.iter().map(Self::constant).collect::<Option<Vec<_>>>();
        match constant {
            Some(texts) => Self::Constant(brackets(b"[]", &texts)),
            None => Self::Array(elements),
        }
    }

    /// An object; without holes, as a constant.
    pub(in crate::profile) fn object(members: Vec<(Bytes, Self)>) -> Self {
        let constant = |(name, tree): &(Bytes, Self)| {
            tree.constant().map(|text| Bytes::from([&name[..], &text[..]].concat()))
        };
        match members.iter().map(constant).collect::<Option<Vec<_>>>() {
            Some(texts) => Self::Constant(brackets(b"{}", &texts)),
            None => Self::Object(members),
        }
    }

    fn constant(&self) -> Option<Bytes> {
        match self {
            Self::Constant(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// The payload; `None` where it wants to be left out.
    ///
    /// # Errors
    /// A hole has no value, or none for its place, or the payload would be too large.
    pub(in crate::profile) fn render(
        &self,
        scope: &Arc<Scope>,
    ) -> Result<Option<Data>, RenderError> {
        match self {
            Self::Constant(text) => {
                Ok(Some(Data::Json(broker_core::JsonText::from_checked(text.clone()))))
            }
            Self::Whole(expression) => expression.data(scope),
            _ => {
                let mut out = write::Out::new(scope.limit());
                Ok(self.write(scope, &mut out)?.then(|| Data::Json(out.finish())))
            }
        }
    }

    /// Writes the payload; whether there is something to write.
    fn write(&self, scope: &Arc<Scope>, out: &mut write::Out) -> Result<bool, RenderError> {
        match self {
            Self::Constant(text) => out.put(text)?,
            Self::Whole(expression) => return expression.write(scope, out),
            Self::Text(text) => match text.render(scope)? {
                Some(text) => out.put_string(&text)?,
                None => return Ok(false),
            },
            Self::Object(members) => {
                let parts = members.iter().map(|(name, tree)| (&name[..], Arc::clone(scope), tree));
                write_all(b"{}", parts, out)?;
            }
            Self::Array(elements) => {
                let parts = elements.iter().map(|tree| (&b""[..], Arc::clone(scope), tree));
                write_all(b"[]", parts, out)?;
            }
            Self::ForEach(list, tree) => {
                let items = list.list(scope)?.into_iter();
                let parts = items.map(|item| (&b""[..], scope.with("item", item), &**tree));
                write_all(b"[]", parts, out)?;
            }
        }
        Ok(true)
    }
}

/// Writes what is in brackets; what wants to be left out leaves no trace.
fn write_all<'t>(
    brackets: &[u8; 2],
    parts: impl Iterator<Item = (&'t [u8], Arc<Scope>, &'t Tree)>,
    out: &mut write::Out,
) -> Result<(), RenderError> {
    out.put(&brackets[..1])?;
    let mut first = true;
    for (name, scope, tree) in parts {
        let start = out.len();
        out.put(if first { b"" } else { b"," })?;
        out.put(name)?;
        if tree.write(&scope, out)? {
            first = false;
        } else {
            out.truncate(start);
        }
    }
    out.put(&brackets[1..])
}

fn brackets(brackets: &[u8; 2], parts: &[Bytes]) -> Bytes {
    [&brackets[..1], &parts.join(&b","[..]), &brackets[1..]].concat().into()
}
