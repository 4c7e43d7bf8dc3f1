//! Where in an object something is: a chain on the stack that becomes text only when
//! there is something to report.

use std::fmt;

#[derive(Debug, Clone, Copy)]
enum Segment<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

/// `spec.containers[0].name`
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

impl<'a> Path<'a> {
    /// The object itself.
    pub const ROOT: Path<'static> = Path {
        parent: None,
        segment: Segment::Root,
    };

    /// Starts a path; `name` may itself be dotted.
    pub fn new(name: &'a str) -> Self {
        Self {
            parent: None,
            segment: Segment::Name(name),
        }
    }

    /// `.name`
    pub fn of(&'a self, name: &'a str) -> Path<'a> {
        self.then(Segment::Name(name))
    }

    /// `[2]`
    pub fn at(&'a self, index: usize) -> Path<'a> {
        self.then(Segment::Index(index))
    }

    /// `[key]`
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        self.then(Segment::Key(key))
    }

    fn then(&'a self, segment: Segment<'a>) -> Path<'a> {
        Path {
            parent: Some(self),
            segment,
        }
    }

    pub fn is_root(&self) -> bool {
        matches!(self.segment, Segment::Root)
    }

    /// As errors name it: the root is `<nil>`.
    pub fn field(&self) -> String {
        if self.is_root() {
            "<nil>".to_string()
        } else {
            self.to_string()
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Name(name) if self.parent.is_some_and(|p| !p.is_root()) => write!(f, ".{name}"),
            Segment::Name(name) => f.write_str(name),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}
