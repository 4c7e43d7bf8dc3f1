//! Tokens to tree: a recursive-descent parser with precedence climbing. Bounded in
//! the length of the text and in nesting, because expressions come from users.

use crate::ast::{Entry, Expr, Field, Item, Kind, Literal};
use crate::error::Issue;
use crate::lexer::{Spanned, Token, lex};
use crate::macros;

/// Longer expressions are refused unread; upstream's own bound, in code points.
pub const EXPRESSION_CHARS_MAX: usize = 100_000;
/// Brackets within brackets: the parser recurses, and unoptimised takes 10 KB of stack for each.
pub const NESTING_MAX: u16 = 100;
/// Longer chains of operators or selections are refused: every walk over the tree recurses.
pub const CHAIN_MAX: u16 = 250;
/// What macros may make of it: each nests its body a few levels deeper.
const HEIGHT_MAX: u16 = 600;

/// Reserved as names of variables, not of fields.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// What ANTLR lists where an operand is missing.
const OPERAND_EXPECTED: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// The tree and how many ids were given out.
pub fn parse(source: &str) -> Result<(Expr, u32), Vec<Issue>> {
    let chars = source.chars().count();
    if chars > EXPRESSION_CHARS_MAX {
        return Err(vec![Issue {
            offset: 0,
            message: format!("expression code point size exceeds limit: size: {chars}, limit {EXPRESSION_CHARS_MAX}"),
        }]);
    }
    let (tokens, mut issues) = lex(source);
    let mut parser = Parser {
        source,
        tokens,
        at: 0,
        nesting: 0,
        make: Make { next_id: 0 },
    };
    match parser.whole() {
        Ok(expr) if issues.is_empty() => Ok((expr, parser.make.next_id)),
        Ok(_) => Err(issues),
        Err(issue) => {
            issues.push(issue);
            Err(issues)
        }
    }
}

/// Makes nodes: gives out ids and keeps the height bounded.
pub(crate) struct Make {
    next_id: u32,
}

impl Make {
    pub fn expr(&mut self, offset: u32, kind: Kind) -> Expr {
        let id = self.next_id;
        self.next_id += 1;
        let height = 1 + children(&kind).map(|child| child.height).max().unwrap_or(0);
        Expr {
            id,
            offset,
            height,
            kind,
        }
    }
}

fn children(kind: &Kind) -> Box<dyn Iterator<Item = &Expr> + '_> {
    match kind {
        Kind::Literal(_) | Kind::Ident(_) => Box::new(std::iter::empty()),
        Kind::Select { operand, .. } => Box::new(std::iter::once(&**operand)),
        Kind::Call { target, args, .. } => Box::new(target.as_deref().into_iter().chain(args)),
        Kind::List(items) => Box::new(items.iter().map(|item| &item.value)),
        Kind::Map(entries) => Box::new(entries.iter().flat_map(|entry| [&entry.key, &entry.value])),
        Kind::Struct { fields, .. } => Box::new(fields.iter().map(|field| &field.value)),
        Kind::Fold(fold) => Box::new([&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result].into_iter()),
    }
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<Spanned>,
    at: usize,
    nesting: u16,
    make: Make,
}

type Parsed = Result<Expr, Issue>;

/// Binding strength of the left-associative operators; `&&` and `||` are handled apart.
fn strength(op: &str) -> Option<(u8, &'static str)> {
    Some(match op {
        "==" => (1, "_==_"),
        "!=" => (1, "_!=_"),
        "<" => (1, "_<_"),
        "<=" => (1, "_<=_"),
        ">" => (1, "_>_"),
        ">=" => (1, "_>=_"),
        "in" => (1, "@in"),
        "+" => (2, "_+_"),
        "-" => (2, "_-_"),
        "*" => (3, "_*_"),
        "/" => (3, "_/_"),
        "%" => (3, "_%_"),
        _ => return None,
    })
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn offset(&self) -> u32 {
        self.tokens[self.at].start
    }

    /// The expression, and nothing after it.
    fn whole(&mut self) -> Parsed {
        let expr = self.expr()?;
        if self.peek() == &Token::End {
            return Ok(expr);
        }
        // One token too many is told apart from a text that goes on.
        let what = if self.at + 2 == self.tokens.len() {
            "extraneous"
        } else {
            "mismatched"
        };
        let shown = self.shown();
        self.fault(format!("Syntax error: {what} input '{shown}' expecting <EOF>"))
    }

    fn advance(&mut self) -> Token {
        let token = self.tokens[self.at].token.clone();
        // The end stays where it is.
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn accept(&mut self, op: &str) -> bool {
        let found = matches!(self.peek(), Token::Op(found) if *found == op);
        if found {
            self.advance();
        }
        found
    }

    fn fault<T>(&self, message: impl Into<String>) -> Result<T, Issue> {
        Err(Issue {
            offset: self.offset(),
            message: message.into(),
        })
    }

    /// The token as it is written.
    fn shown(&self) -> String {
        let token = &self.tokens[self.at];
        match token.token {
            Token::End => "<EOF>".to_string(),
            _ => self.source[token.start as usize..token.end as usize].to_string(),
        }
    }

    fn expect(&mut self, op: &str) -> Result<u32, Issue> {
        let offset = self.offset();
        if self.accept(op) {
            return Ok(offset);
        }
        let shown = self.shown();
        self.fault(format!("Syntax error: missing '{op}' at '{shown}'"))
    }

    fn expr(&mut self) -> Parsed {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err(Issue {
                offset: 0,
                message: format!("expression recursion limit exceeded: {NESTING_MAX}"),
            });
        }
        let condition = self.logic()?;
        let offset = self.offset();
        let value = if self.accept("?") {
            let yes = self.logic()?;
            self.expect(":")?;
            let no = self.expr()?;
            self.call(offset, "_?_:_", vec![condition, yes, no])
        } else {
            Ok(condition)
        };
        self.nesting -= 1;
        value
    }

    fn made(&mut self, offset: u32, kind: Kind) -> Parsed {
        let expr = self.make.expr(offset, kind);
        if expr.height > HEIGHT_MAX {
            return Err(Issue {
                offset: 0,
                message: format!("expression recursion limit exceeded: {NESTING_MAX}"),
            });
        }
        Ok(expr)
    }

    fn call(&mut self, offset: u32, function: &str, args: Vec<Expr>) -> Parsed {
        self.made(
            offset,
            Kind::Call {
                function: function.to_string(),
                target: None,
                args,
            },
        )
    }

    /// A chain of `||` of chains of `&&`, each as a balanced tree: they may be long.
    fn logic(&mut self) -> Parsed {
        let (mut ors, mut or_offsets) = (Vec::new(), Vec::new());
        loop {
            let (mut ands, mut and_offsets) = (Vec::new(), Vec::new());
            loop {
                ands.push(self.binary(1)?);
                let offset = self.offset();
                if !self.accept("&&") {
                    break;
                }
                and_offsets.push(offset);
            }
            ors.push(self.balance("_&&_", &mut ands.into_iter(), &and_offsets)?);
            let offset = self.offset();
            if !self.accept("||") {
                return self.balance("_||_", &mut ors.into_iter(), &or_offsets);
            }
            or_offsets.push(offset);
        }
    }

    fn balance(&mut self, function: &str, terms: &mut std::vec::IntoIter<Expr>, offsets: &[u32]) -> Parsed {
        if offsets.is_empty() {
            // One term more than operators, at every level.
            return terms.next().map_or_else(|| self.fault("internal error"), Ok);
        }
        let middle = offsets.len() / 2;
        let left = self.balance(function, terms, &offsets[..middle])?;
        let right = self.balance(function, terms, &offsets[middle + 1..])?;
        self.call(offsets[middle], function, vec![left, right])
    }

    fn binary(&mut self, least: u8) -> Parsed {
        let mut left = self.unary()?;
        let mut count = 0;
        loop {
            let Token::Op(op) = self.peek() else { return Ok(left) };
            let Some((found, function)) = strength(op).filter(|(found, _)| *found >= least) else {
                return Ok(left);
            };
            count += 1;
            if count > CHAIN_MAX {
                return self.fault(format!("expression recursion limit exceeded: {CHAIN_MAX}"));
            }
            let offset = self.offset();
            self.advance();
            let right = self.binary(found + 1)?;
            left = self.call(offset, function, vec![left, right])?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let offset = self.offset();
        let (op, function) = match self.peek() {
            Token::Op("!") => ("!", "!_"),
            Token::Op("-") => ("-", "-_"),
            _ => return self.member(),
        };
        let mut count = 0;
        while self.accept(op) {
            count += 1;
        }
        if op == "-"
            && let Some(literal) = self.negative_literal()
        {
            // `-1` is one literal; further signs apply to it.
            count -= 1;
            let start = self.made(offset, Kind::Literal(literal))?;
            let operand = self.member_of(start)?;
            return self.signed(offset, function, operand, count);
        }
        let operand = self.member()?;
        self.signed(offset, function, operand, count)
    }

    fn signed(&mut self, offset: u32, function: &str, operand: Expr, count: usize) -> Parsed {
        if count.is_multiple_of(2) {
            Ok(operand)
        } else {
            self.call(offset, function, vec![operand])
        }
    }

    fn negative_literal(&mut self) -> Option<Literal> {
        let literal = match self.peek() {
            Token::IntMin => Literal::Int(i64::MIN),
            Token::Literal(Literal::Int(value)) => Literal::Int(-value),
            Token::Literal(Literal::Double(value)) => Literal::Double(-value),
            _ => return None,
        };
        self.advance();
        Some(literal)
    }

    fn member(&mut self) -> Parsed {
        let start = self.primary()?;
        self.member_of(start)
    }

    fn member_of(&mut self, mut left: Expr) -> Parsed {
        let mut count = 0;
        loop {
            count += 1;
            if count > CHAIN_MAX {
                return self.fault(format!("expression recursion limit exceeded: {CHAIN_MAX}"));
            }
            let offset = self.offset();
            if self.accept(".") {
                left = self.selection(left, offset)?;
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = self.expr()?;
                self.expect("]")?;
                let function = if optional { "_[?_]" } else { "_[_]" };
                left = self.call(offset, function, vec![left, index])?;
            } else if self.peek() == &Token::Op("{") {
                let Some(name) = left.qualified_name() else {
                    return Ok(left);
                };
                self.advance();
                left = self.structure(name, offset)?;
            } else {
                return Ok(left);
            }
        }
    }

    fn selection(&mut self, operand: Expr, offset: u32) -> Parsed {
        let optional = self.accept("?");
        let name_offset = self.offset();
        let field = match self.advance() {
            Token::Ident(name) | Token::Quoted(name) => name,
            // Keywords are no fields, but `in` reads as one in no grammar either.
            _ => {
                self.at = self.tokens.partition_point(|token| token.start < name_offset);
                let shown = self.shown();
                return self.fault(format!(
                    "Syntax error: mismatched input '{shown}' expecting {{'?', IDENTIFIER, ESC_IDENTIFIER}}"
                ));
            }
        };
        if optional {
            let name = self.made(name_offset, Kind::Literal(Literal::String(field)))?;
            return self.call(offset, "_?._", vec![operand, name]);
        }
        let open = self.offset();
        if self.accept("(") {
            let args = self.arguments()?;
            return self.expand(open, field, Some(operand), args);
        }
        self.made(
            offset,
            Kind::Select {
                operand: Box::new(operand),
                field,
                test: false,
            },
        )
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, Issue> {
        let mut args = Vec::new();
        if self.accept(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if !self.accept(",") {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn expand(&mut self, offset: u32, function: String, target: Option<Expr>, args: Vec<Expr>) -> Parsed {
        let kind = macros::expand(&mut self.make, offset, function, target, args)?;
        self.made(offset, kind)
    }

    fn primary(&mut self) -> Parsed {
        let offset = self.offset();
        match self.peek().clone() {
            Token::Literal(literal) => {
                self.advance();
                self.made(offset, Kind::Literal(literal))
            }
            Token::IntMin => self.fault("invalid int literal"),
            Token::Op("(") => {
                self.advance();
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Op("[") => {
                self.advance();
                self.list(offset)
            }
            Token::Op("{") => {
                self.advance();
                self.map(offset)
            }
            Token::Op(".") => {
                self.advance();
                match self.peek().clone() {
                    Token::Ident(name) => self.name(name),
                    _ => self.operand_fault(),
                }
            }
            Token::Ident(name) => self.name(name),
            _ => self.operand_fault(),
        }
    }

    fn operand_fault(&self) -> Parsed {
        let shown = self.shown();
        self.fault(format!(
            "Syntax error: mismatched input '{shown}' expecting {OPERAND_EXPECTED}"
        ))
    }

    fn name(&mut self, name: String) -> Parsed {
        let offset = self.offset();
        if RESERVED.contains(&name.as_str()) {
            return self.fault(format!("reserved identifier: {name}"));
        }
        self.advance();
        let open = self.offset();
        if self.accept("(") {
            let args = self.arguments()?;
            return self.expand(open, name, None, args);
        }
        self.made(offset, Kind::Ident(name))
    }

    fn list(&mut self, offset: u32) -> Parsed {
        let mut items = Vec::new();
        while !self.accept("]") {
            let optional = self.accept("?");
            let value = self.expr()?;
            items.push(Item { value, optional });
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        self.made(offset, Kind::List(items))
    }

    fn map(&mut self, offset: u32) -> Parsed {
        let mut entries = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let key = self.expr()?;
            let offset = self.expect(":")?;
            let value = self.expr()?;
            entries.push(Entry {
                offset,
                key,
                value,
                optional,
            });
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.made(offset, Kind::Map(entries))
    }

    fn structure(&mut self, name: String, offset: u32) -> Parsed {
        let mut fields = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let name = match self.peek().clone() {
                Token::Ident(name) | Token::Quoted(name) => name,
                _ => {
                    let shown = self.shown();
                    return self.fault(format!("Syntax error: mismatched input '{shown}' expecting IDENTIFIER"));
                }
            };
            self.advance();
            let offset = self.expect(":")?;
            let value = self.expr()?;
            fields.push(Field {
                offset,
                name,
                value,
                optional,
            });
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.made(offset, Kind::Struct { name, fields })
    }
}

#[cfg(test)]
#[path = "parser_test.rs"]
mod tests;
