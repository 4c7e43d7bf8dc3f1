//! What goes wrong: issues found while compiling, laid out as API users know them
//! from Status messages, and failures while evaluating.

use std::borrow::Cow;
use std::fmt;

/// One fault at one place of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Byte offset into the expression.
    pub offset: u32,
    pub message: String,
}

/// Why an expression does not compile. Displays as
///
/// ```text
/// ERROR: <input>:1:5: undefined field 'foo'
///  | self.foo
///  | ....^
/// ```
///
/// with one such block per issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    pub issues: Vec<Issue>,
    source: String,
}

impl std::error::Error for CompileError {}

impl CompileError {
    pub(crate) fn new(source: &str, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| issue.offset);
        Self {
            issues,
            source: source.to_string(),
        }
    }
}

/// As many issues as one message shows.
const ISSUES_SHOWN_MAX: usize = 100;

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.issues.iter().take(ISSUES_SHOWN_MAX).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            show(f, &self.source, issue)?;
        }
        Ok(())
    }
}

fn show(f: &mut fmt::Formatter<'_>, source: &str, issue: &Issue) -> fmt::Result {
    let mut at = (issue.offset as usize).min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    let line_start = source[..at].rfind('\n').map_or(0, |i| i + 1);
    let line_end = source[at..].find('\n').map_or(source.len(), |i| at + i);
    let line_number = source[..at].matches('\n').count() + 1;
    let before = &source[line_start..at];
    let column = before.chars().count();
    write!(f, "ERROR: <input>:{line_number}:{}: {}", column + 1, issue.message)?;
    let line = source[line_start..line_end].replace('\t', " ");
    write!(f, "\n | {line}\n | ")?;
    // Wide characters are underlined with wide dots, so that the caret stands below its column.
    for c in before.chars() {
        f.write_str(if c.len_utf8() > 1 { "．" } else { "." })?;
    }
    let wide = source[at..line_end].chars().next().is_some_and(|c| c.len_utf8() > 1);
    f.write_str(if wide { "＾" } else { "^" })
}

/// Why an evaluation gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression's own fault: `no such key: x`, `division by zero`, ...
    #[error("{0}")]
    Failed(Cow<'static, str>),
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
    #[error("operation interrupted")]
    Interrupted,
}

impl EvalError {
    pub fn failed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Failed(message.into())
    }

    pub(crate) fn no_such_overload() -> Self {
        Self::Failed(Cow::Borrowed("no such overload"))
    }

    /// Ends the evaluation whatever stands around it, unlike an ordinary failure, which
    /// `||`, `&&` and `all()` may absorb.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_place() {
        let error = CompileError::new(
            "a &&\n'ü' + b",
            vec![Issue {
                offset: 12,
                message: "oops".into(),
            }],
        );
        assert_eq!(error.to_string(), "ERROR: <input>:2:7: oops\n | 'ü' + b\n | .．....^");
    }
}
