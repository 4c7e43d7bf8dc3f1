//! Text to tokens. Knows every literal form of the language: numbers, the eight
//! kinds of strings, escapes, comments.

use crate::ast::Literal;
use crate::error::Issue;

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Ident(String),
    /// `` `any-name` ``: allowed where a field is named.
    Quoted(String),
    Literal(Literal),
    /// An integer literal too big for int64 without its sign (2^63).
    IntMin,
    Op(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Spanned {
    pub token: Token,
    pub start: u32,
    pub end: u32,
}

/// Longest first.
const OPERATORS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

/// The tokens, and what was no token: that is left out, and reading goes on.
pub fn lex(source: &str) -> (Vec<Spanned>, Vec<Issue>) {
    let mut lexer = Lexer { source, at: 0 };
    let (mut tokens, mut issues) = (Vec::new(), Vec::new());
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let token = match lexer.next() {
            Ok(token) => token,
            Err(issue) => {
                if issues.len() < ISSUES_MAX {
                    issues.push(issue);
                }
                // Numbers and strings were read to their end, other characters were not.
                if lexer.at == start {
                    lexer.at += lexer.rest().chars().next().map_or(0, char::len_utf8);
                    continue;
                }
                Token::Literal(Literal::Null)
            }
        };
        let end = token == Token::End;
        tokens.push(Spanned {
            token,
            start: start as u32,
            end: lexer.at as u32,
        });
        if end {
            return (tokens, issues);
        }
    }
}

/// As many faults as are told.
const ISSUES_MAX: usize = 20;

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn fault<T>(&self, offset: usize, message: impl Into<String>) -> Result<T, Issue> {
        Err(Issue {
            offset: offset as u32,
            message: message.into(),
        })
    }

    fn unknown<T>(&self, offset: usize, text: &str) -> Result<T, Issue> {
        self.fault(offset, format!("Syntax error: token recognition error at: '{text}'"))
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']).len();
            self.at += blank;
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn next(&mut self) -> Result<Token, Issue> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token::End);
        };
        if first.is_ascii_digit() || first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            return self.number();
        }
        if first == '"' || first == '\'' {
            return self.string(false, false);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            if let Some(token) = self.prefixed_string()? {
                return Ok(token);
            }
            let len = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            self.at += len;
            return Ok(match &rest[..len] {
                "true" => Token::Literal(Literal::Bool(true)),
                "false" => Token::Literal(Literal::Bool(false)),
                "null" => Token::Literal(Literal::Null),
                "in" => Token::Op("in"),
                name => Token::Ident(name.to_string()),
            });
        }
        if first == '`' {
            return self.quoted_ident();
        }
        for operator in OPERATORS {
            if rest.starts_with(operator) {
                self.at += operator.len();
                return Ok(Token::Op(operator));
            }
        }
        // Half an operator is told with the character that it breaks at.
        let half = matches!(first, '=' | '&' | '|');
        let len = rest.chars().take(if half { 2 } else { 1 }).map(char::len_utf8).sum();
        self.unknown(self.at, &rest[..len])
    }

    fn quoted_ident(&mut self) -> Result<Token, Issue> {
        let body = &self.rest()[1..];
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-/ ".contains(c);
        let len = body.find(|c: char| !allowed(c)).unwrap_or(body.len());
        if len == 0 || !body[len..].starts_with('`') {
            return self.unknown(self.at, "`");
        }
        self.at += len + 2;
        Ok(Token::Quoted(body[..len].to_string()))
    }

    fn prefixed_string(&mut self) -> Result<Option<Token>, Issue> {
        let bytes = self.rest().as_bytes();
        let quote = bytes.iter().take(3).position(|b| matches!(b, b'"' | b'\''));
        let Some(len) = quote.filter(|len| *len > 0) else {
            return Ok(None);
        };
        let (raw, is_bytes) = match bytes[..len].to_ascii_lowercase().as_slice() {
            b"r" => (true, false),
            b"b" => (false, true),
            b"rb" | b"br" => (true, true),
            _ => return Ok(None),
        };
        self.at += len;
        self.string(raw, is_bytes).map(Some)
    }

    fn number(&mut self) -> Result<Token, Issue> {
        let start = self.at;
        let rest = self.rest();
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let len = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            if len > 0 {
                self.at += 2 + len;
                return self.integer(start, &hex[..len], 16);
            }
        }
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let mut len = digits(rest);
        let mut float = false;
        if rest[len..].starts_with('.') && digits(&rest[len + 1..]) > 0 {
            float = true;
            len += 1 + digits(&rest[len + 1..]);
        }
        if rest[len..].starts_with(['e', 'E']) {
            let exponent = &rest[len + 1..];
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let count = digits(&exponent[sign..]);
            if count > 0 {
                float = true;
                len += 1 + sign + count;
            }
        }
        self.at += len;
        let text = &rest[..len];
        if !float {
            return self.integer(start, text, 10);
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Token::Literal(Literal::Double(value))),
            _ => self.fault(start, "invalid double literal"),
        }
    }

    fn integer(&mut self, start: usize, digits: &str, radix: u32) -> Result<Token, Issue> {
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return match u64::from_str_radix(digits, radix) {
                Ok(value) => Ok(Token::Literal(Literal::Uint(value))),
                Err(_) => self.fault(start, "invalid uint literal"),
            };
        }
        match u64::from_str_radix(digits, radix) {
            Ok(value) if value == 1 << 63 => Ok(Token::IntMin),
            Ok(value) if value < 1 << 63 => Ok(Token::Literal(Literal::Int(value as i64))),
            _ => self.fault(start, "invalid int literal"),
        }
    }

    fn string(&mut self, raw: bool, is_bytes: bool) -> Result<Token, Issue> {
        let start = self.at;
        let rest = self.rest();
        let quote = &rest[..1];
        let triple = rest.starts_with(&quote.repeat(3));
        let fence = if triple { quote.repeat(3) } else { quote.to_string() };
        let body_start = start + fence.len();
        let mut end = body_start;
        loop {
            let Some(c) = self.source[end..].chars().next() else {
                self.at = self.source.len();
                return self.unknown(start, &self.source[start..]);
            };
            if self.source[end..].starts_with(&fence) {
                break;
            }
            if !triple && (c == '\n' || c == '\r') {
                return self.unknown(start, &self.source[start..end]);
            }
            end += c.len_utf8();
            if c == '\\' && !raw {
                end += self.source[end..].chars().next().map_or(0, char::len_utf8);
            }
        }
        self.at = end + fence.len();
        let body = &self.source[body_start..end];
        let body = body.replace("\r\n", "\n").replace('\r', "\n");
        let bytes = if raw {
            Some(body.into_bytes())
        } else {
            unescape(&body, is_bytes)
        };
        let Some(bytes) = bytes else {
            return self.fault(
                start,
                "Syntax error: token recognition error at: invalid escape sequence",
            );
        };
        if is_bytes {
            return Ok(Token::Literal(Literal::Bytes(bytes)));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Token::Literal(Literal::String(text))),
            Err(_) => self.fault(start, "string literal is not valid UTF-8"),
        }
    }
}

/// Resolves the escapes; in bytes literals `\x` and octal escapes are bytes, else code points.
fn unescape(body: &str, is_bytes: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest[at + 1..].chars().next()?;
        let after = &rest[at + 1 + escape.len_utf8()..];
        let (digits, radix) = match escape {
            'x' | 'X' => (2, 16),
            'u' if !is_bytes => (4, 16),
            'U' if !is_bytes => (8, 16),
            '0'..='3' => (2, 8),
            _ => (0, 0),
        };
        rest = after;
        if digits > 0 {
            let text = after.get(..digits)?;
            if !text.chars().all(|c| c.is_digit(radix)) {
                return None;
            }
            rest = &after[digits..];
            let mut code = u32::from_str_radix(text, radix).ok()?;
            if radix == 8 {
                code += escape.to_digit(8)? * 64;
            }
            if is_bytes {
                out.push(u8::try_from(code).ok()?);
            } else {
                let c = char::from_u32(code)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            continue;
        }
        out.push(match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '?' | '"' | '\'' | '`' => escape as u8,
            _ => return None,
        });
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Option<Literal> {
        let (tokens, issues) = lex(text);
        if !issues.is_empty() {
            return None;
        }
        match &tokens[..] {
            [
                Spanned {
                    token: Token::Literal(value),
                    ..
                },
                _,
            ] => Some(value.clone()),
            _ => None,
        }
    }

    #[test]
    fn literals() {
        let s = |text: &str| Some(Literal::String(text.to_string()));
        for (text, want) in [
            ("12", Some(Literal::Int(12))),
            ("0xff", Some(Literal::Int(255))),
            ("7u", Some(Literal::Uint(7))),
            ("1.5e3", Some(Literal::Double(1500.0))),
            (".5", Some(Literal::Double(0.5))),
            ("1e400", None),
            ("9223372036854775809", None),
            ("18446744073709551615u", Some(Literal::Uint(u64::MAX))),
            (r#"'a\n\'b'"#, s("a\n'b")),
            (r#""\u00fc\x41\101""#, s("üAA")),
            (r"r'\d+'", s(r"\d+")),
            ("'''a\n'b'''", s("a\n'b")),
            ("'a\nb'", None),
            ("'a", None),
            (r"'\q'", None),
            (r"'\ud800'", None),
            (r"b'\xff\377'", Some(Literal::Bytes(vec![255, 255]))),
            ("b'ü'", Some(Literal::Bytes("ü".as_bytes().to_vec()))),
            ("Rb'\\'", Some(Literal::Bytes(b"\\".to_vec()))),
        ] {
            assert_eq!(literal(text), want, "{text}");
        }
    }
}
