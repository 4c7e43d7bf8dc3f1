//! Service CIDRs: where service addresses come from.

use super::address;
use crate::check::{Errors, IMMUTABLE, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::Tree;
use serde_json::Value;

pub(crate) const COLUMNS: &[Column] = &[NAME, text("CIDRs", "Ranges of service addresses."), AGE];

pub(crate) static STRATEGY: Rules = Rules {
    validate_create: |o| gather(|errors| spec(o.at("spec"), errors)),
    validate_update: |sub, new, old| {
        gather(|errors| {
            if sub == "status" {
                return;
            }
            let path = Path::new("spec.cidrs");
            let (now, before) = (new.items("spec.cidrs"), old.items("spec.cidrs"));
            match (before.len(), now.len()) {
                (a, b) if a == b => {
                    for (i, cidr) in now.iter().enumerate().filter(|(i, cidr)| before[*i] != **cidr) {
                        errors.invalid(&path.at(i), cidr.clone(), IMMUTABLE);
                    }
                }
                // The second family may come later.
                (1, 2) => {
                    if now[0] != before[0] {
                        errors.invalid(&path.at(0), now[0].clone(), IMMUTABLE);
                    }
                    spec(new.at("spec"), errors);
                }
                _ => errors.invalid(&path, now.to_vec(), IMMUTABLE),
            }
        })
    },
    row: |o, now| {
        let cidrs: Vec<&str> = o.items("spec.cidrs").iter().filter_map(Value::as_str).collect();
        vec![cell::name(o), cidrs.join(",").into(), cell::age(o, now)]
    },
    ..Rules::STATUS
};

fn spec(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec.cidrs");
    let cidrs: Vec<&str> = spec.items("cidrs").iter().map(|c| c.as_str().unwrap_or("")).collect();
    if cidrs.is_empty() {
        return errors.required(&path, "at least one CIDR required");
    }
    if cidrs.len() > 2 {
        return errors.invalid(&path, spec.clone(), "may only hold up to 2 values");
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        address::canonical_cidr(&path.at(i), cidr, errors);
    }
    let family = |cidr: &str| address::range(cidr).map(|r| r.addr().is_ipv4());
    if let [first, second] = cidrs[..]
        && family(first) == family(second)
        && family(first).is_some()
    {
        let text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, spec.items("cidrs").to_vec(), text);
    }
}
