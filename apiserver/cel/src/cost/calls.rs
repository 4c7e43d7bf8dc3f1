//! The estimate of a call: by function for Kubernetes' and the extended libraries, by
//! overload for the language's own.

use super::{Coster, Range};
use crate::ast::{Expr, Kind, Literal};
use crate::meter::{CHECK_COST, FORMAT_REGEX_CHARS, LIST_COST, REGEX_FACTOR, STRUCT_COST, TEXT_FACTOR};
use crate::types::{self, Type};

/// A cost, and the size of the result where that is known.
type Estimate = (Range, Option<Range>);

const ONE: Range = Range::exactly(1);

impl Coster<'_> {
    pub(super) fn call_cost(
        &mut self,
        expr: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
        costs: &[Range],
    ) -> Estimate {
        let of_args = costs.iter().fold(Range::ZERO, |sum, cost| sum.add(*cost));
        let known = self
            .extended(function, overload, target, args)
            .or_else(|| self.kubernetes(function, overload, target, args));
        if let Some((cost, size)) = known {
            return (cost.add(of_args), size);
        }
        match overload {
            // The right side may never be looked at.
            "logical_and" | "logical_or" => {
                let [left, right] = costs else { return (of_args, None) };
                let cost = Range {
                    min: left.min,
                    max: left.max.saturating_add(right.max),
                };
                (cost, None)
            }
            "conditional" => self.conditional(expr, args, costs),
            _ => {
                let (cost, size) = self.standard(expr, overload, target, args);
                (cost.add(of_args), size)
            }
        }
    }

    fn conditional(&mut self, expr: &Expr, args: &[Expr], costs: &[Range]) -> Estimate {
        let ([_, yes, no], [condition, yes_cost, no_cost]) = (args, costs) else {
            return (Range::ZERO, None);
        };
        if let (Some(a), Some(b)) = (self.entries_of(yes), self.entries_of(no)) {
            self.entries.insert(expr.id, a.union(b));
        }
        let size = self.size_or_unknown(yes).union(self.size_or_unknown(no));
        (condition.add(yes_cost.union(*no_cost)), Some(size))
    }

    /// The language's own overloads.
    fn standard(&mut self, expr: &Expr, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Estimate {
        match (overload, target, args) {
            ("string_format", Some(target), _) => (self.size_or_unknown(target).scale(TEXT_FACTOR), None),
            ("strings_quote", _, [text]) => {
                let size = self.size_or_unknown(text);
                let result = Range {
                    min: size.min.saturating_add(2),
                    max: size.max.saturating_mul(2).saturating_add(2),
                };
                (size.scale(TEXT_FACTOR), Some(result))
            }
            ("string_to_bytes", _, [text]) => {
                let size = self.size_or_unknown(text);
                let result = Range {
                    min: size.min,
                    max: size.max.saturating_mul(4),
                };
                (size.scale(TEXT_FACTOR), Some(result))
            }
            ("bytes_to_string", _, [bytes]) => {
                let size = self.size_or_unknown(bytes);
                let result = Range {
                    min: size.min / 4,
                    max: size.max,
                };
                (size.scale(TEXT_FACTOR), Some(result))
            }
            ("starts_with_string" | "ends_with_string", _, [part]) => {
                (self.size_or_unknown(part).scale(TEXT_FACTOR), None)
            }
            ("in_list", _, [_, list]) => (self.size_or_unknown(list), None),
            ("matches_string", Some(text), [pattern]) => (self.match_cost(text, pattern), None),
            ("contains_string", Some(text), [part]) => {
                let text = self.size_or_unknown(text).scale(TEXT_FACTOR);
                let part = self.size_or_unknown(part).scale(TEXT_FACTOR);
                (text.multiply(part), None)
            }
            ("add_string" | "add_bytes" | "add_list", _, [a, b]) => {
                let size = self.size_or_unknown(a).add(self.size_or_unknown(b));
                if let (Some(a), Some(b)) = (self.entries_of(a), self.entries_of(b)) {
                    self.entries.insert(expr.id, a.union(b));
                }
                let cost = if overload == "add_list" {
                    ONE
                } else {
                    size.scale(TEXT_FACTOR)
                };
                (cost, Some(size))
            }
            ("equals" | "not_equals", _, [a, b]) => (self.comparison(a, b), None),
            (id, _, [a, b])
                if (id.starts_with("less") || id.starts_with("greater"))
                    && (id.ends_with("_string") || id.ends_with("_bytes")) =>
            {
                (self.comparison(a, b), None)
            }
            _ => (ONE, None),
        }
    }

    fn comparison(&mut self, a: &Expr, b: &Expr) -> Range {
        let max = self.size_or_unknown(a).max.min(self.size_or_unknown(b).max);
        let min = u64::from(max > 0);
        Range { min, max }.scale(TEXT_FACTOR)
    }

    fn match_cost(&mut self, text: &Expr, pattern: &Expr) -> Range {
        // One more than its size: empty text is matched too.
        let text = self.size_or_unknown(text).add(ONE).scale(TEXT_FACTOR);
        text.multiply(self.size_or_unknown(pattern).scale(REGEX_FACTOR))
    }

    /// The extended list and set libraries.
    fn extended(&mut self, function: &str, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Option<Estimate> {
        let new_list = |size: Range, factor: f64| {
            let cost = size.scale(factor).add(Range::exactly(1 + LIST_COST));
            Some((cost, Some(size)))
        };
        match (function, target, args) {
            ("slice", Some(list), [from, to]) => {
                let longest = self.size_or_unknown(list).max;
                let (from, to) = (whole_literal(from, 0), whole_literal(to, longest));
                new_list(Range::exactly(to.saturating_sub(from)), 1.0)
            }
            ("lists.range", None, [count]) => new_list(Range::exactly(whole_literal(count, u64::MAX)), 1.0),
            ("reverse", Some(list), []) => new_list(self.size_or_unknown(list), 1.0),
            ("flatten", Some(list), rest) => {
                let depth = rest.first().map_or(1, |depth| whole_literal(depth, u64::MAX));
                new_list(self.size_or_unknown(list), depth as f64)
            }
            ("distinct", Some(list), []) => {
                let size = self.size_or_unknown(list);
                new_list(size.multiply(size), 2.0)
            }
            ("sort", Some(list), []) | ("@sortByAssociatedKeys", Some(_), [list]) => {
                let size = self.size_or_unknown(list);
                let text = overload.contains("_string_") || overload.contains("_bytes_");
                new_list(size.multiply(size), if text { 2.0 + TEXT_FACTOR } else { 2.0 })
            }
            ("sets.contains" | "sets.intersects" | "sets.equivalent", None, [a, b]) => {
                let factor = if function == "sets.equivalent" { 2.0 } else { 1.0 };
                let size = self.size_or_unknown(a).multiply(self.size_or_unknown(b));
                Some((size.scale(factor).add(ONE), None))
            }
            _ => None,
        }
    }

    /// Kubernetes' libraries, and the functions of others that it prices itself.
    fn kubernetes(&mut self, function: &str, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Option<Estimate> {
        let cost = |cost: Range| Some((cost, None));
        match (function, target, args) {
            ("check", ..) => cost(Range::exactly(CHECK_COST)),
            (
                "serviceAccount"
                | "path"
                | "group"
                | "resource"
                | "subresource"
                | "namespace"
                | "name"
                | "allowed"
                | "reason"
                | "error"
                | "errored"
                | "masked"
                | "prefixLength"
                | "family"
                | "isUnspecified"
                | "isLoopback"
                | "isLinkLocalMulticast"
                | "isLinkLocalUnicast"
                | "isGlobalUnicast"
                | "format.named"
                | "sign"
                | "asInteger"
                | "isInteger"
                | "asApproximateFloat"
                | "isGreaterThan"
                | "isLessThan"
                | "compareTo"
                | "add"
                | "sub"
                | "major"
                | "minor"
                | "patch"
                | "getScheme"
                | "getHostname"
                | "getHost"
                | "getPort"
                | "getEscapedPath"
                | "getQuery",
                ..,
            ) => cost(ONE),
            ("ip", Some(_), _) => cost(ONE),
            (
                "ip" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver",
                None,
                [text, ..],
            ) => cost(self.size_or_unknown(text).scale(TEXT_FACTOR)),
            ("ip.isCanonical", None, [text]) => cost(self.size_or_unknown(text).scale(2.0 * TEXT_FACTOR)),
            ("fieldSelector" | "labelSelector", _, [selector]) => cost(selector_cost(self.size_or_unknown(selector))),
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target), _) => {
                cost(self.list_traversal(target))
            }
            ("url" | "jsonpatch.escapeKey", _, [text]) => {
                let size = self.size_or_unknown(text);
                Some((size.scale(TEXT_FACTOR), Some(size)))
            }
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(text), _) => {
                let size = self.size_or_unknown(text);
                Some((size.scale(TEXT_FACTOR), Some(size)))
            }
            ("replace", Some(text), [from, to, ..]) => Some(self.replace(text, from, to)),
            ("split", Some(text), _) => {
                let size = self.size_or_unknown(text);
                let parts = args.get(1).map_or(size.max, |limit| whole_literal(limit, size.max));
                let result = Range { min: 0, max: parts };
                Some((size.scale(2.0 * TEXT_FACTOR), Some(result)))
            }
            ("join", Some(list), _) => {
                let size = self.joined_size(list, args.first());
                Some((size.scale(TEXT_FACTOR), Some(size)))
            }
            ("find" | "findAll", Some(text), [pattern, ..]) => {
                let max = self.size_or_unknown(text).max;
                Some((self.match_cost(text, pattern), Some(Range { min: 0, max })))
            }
            ("containsIP" | "containsCIDR", Some(_), [other]) => {
                let parsed = overload.ends_with("_string").then(|| self.size_or_unknown(other));
                cost(network_cost(function == "containsCIDR", parsed))
            }
            ("validate", Some(_), [text]) => {
                let pattern = FORMAT_REGEX_CHARS as f64 * REGEX_FACTOR;
                cost(self.size_or_unknown(text).scale(TEXT_FACTOR).scale(pattern))
            }
            ("_==_", None, [a, b]) => self.opaque_equality(a, b),
            _ => None,
        }
    }

    /// Kubernetes' own types compare at a fixed price.
    fn opaque_equality(&mut self, a: &Expr, b: &Expr) -> Option<Estimate> {
        match (self.ty(a), self.ty(b)) {
            (Type::Opaque(a), Type::Opaque(b)) if a == b => {
                // The largest format is 64 characters.
                let max = if *a == types::FORMAT { 64 } else { 1 };
                let cost = Range { min: 1, max };
                Some((if max > 1 { cost.scale(TEXT_FACTOR) } else { cost }, None))
            }
            _ => None,
        }
    }

    fn item_size(&mut self, list: &Expr) -> Range {
        let max = self
            .origin(list)
            .and_then(|decl| decl.items().map(|items| items.max_elements));
        Range {
            min: 0,
            max: max.unwrap_or(u64::MAX),
        }
    }

    fn list_traversal(&mut self, target: &Expr) -> Range {
        let size = self.size_or_unknown(target);
        match self.ty(target).clone() {
            Type::List(items) => {
                let each = match *items {
                    Type::String | Type::Bytes => ONE.add(self.item_size(target).scale(TEXT_FACTOR)),
                    _ => ONE,
                };
                size.multiply(each)
            }
            _ => size.scale(TEXT_FACTOR),
        }
    }

    fn joined_size(&mut self, list: &Expr, separator: Option<&Expr>) -> Range {
        let count = self.size_or_unknown(list);
        let mut size = Range::ZERO;
        if matches!(self.ty(list), Type::List(_)) {
            size = count.multiply(self.item_size(list));
        }
        if let Some(separator) = separator {
            let between = Range {
                min: count.min.saturating_sub(1),
                max: count.max.saturating_sub(1),
            };
            size = size.add(self.size_or_unknown(separator).multiply(between));
        }
        size
    }

    fn replace(&mut self, text: &Expr, from: &Expr, to: &Expr) -> Estimate {
        let size = self.size_or_unknown(text);
        let (from, to) = (self.size_or_unknown(from), self.size_or_unknown(to));
        // Each: how often the replacement may stand in the result, and what may stay of the text.
        let ceil = |a: u64, b: u64| (a as f64 / b as f64).ceil() as u64;
        let (most, kept_most) = if from.min == 0 {
            // Nothing is replaced before every character and at the end.
            (size.max.saturating_add(1), size.max)
        } else if to.max <= from.min {
            (0, size.max)
        } else {
            (ceil(size.max, from.min), 0)
        };
        let (least, kept_least) = if from.max == 0 {
            (size.min.saturating_add(1), size.min)
        } else if from.max <= to.min {
            (0, size.min)
        } else {
            (ceil(size.min, from.max), 0)
        };
        let count = Range { min: least, max: most };
        let kept = Range {
            min: kept_least,
            max: kept_most,
        };
        (size.scale(2.0 * TEXT_FACTOR), Some(count.multiply(to).add(kept)))
    }
}

fn selector_cost(chars: Range) -> Range {
    let requirements = chars.scale(0.5).scale((LIST_COST + STRUCT_COST) as f64);
    Range::exactly(LIST_COST)
        .add(chars.scale(TEXT_FACTOR))
        .add(requirements)
}

/// Comparing an address of 4 to 16 bytes with a network's; text is parsed first.
fn network_cost(masks: bool, parsed: Option<Range>) -> Range {
    let bytes = Range { min: 4, max: 16 };
    let mut cost = bytes.add(bytes).scale(TEXT_FACTOR);
    if masks {
        cost = cost.add(bytes.scale(TEXT_FACTOR)).add(ONE);
    }
    match parsed {
        Some(text) => cost.add(text.scale(TEXT_FACTOR)),
        None => cost,
    }
}

/// The number a literal says, or what stands for the unknown.
fn whole_literal(expr: &Expr, unknown: u64) -> u64 {
    match &expr.kind {
        Kind::Literal(Literal::Int(value)) => u64::try_from(*value).unwrap_or(unknown),
        Kind::Literal(Literal::Uint(value)) => *value,
        _ => unknown,
    }
}
