//! Finds devices for claims among those that one node reaches: the first that fit, in the
//! order of pools, slices and devices; what was chosen is taken back where it leaves
//! nothing for a later request. Pure.

use super::slice::{Counters, Device, DeviceId, Slice};
use k8s_openapi::api::resource::v1::DeviceToleration;
use skiff_api::quantity::Quantity;
use std::collections::BTreeMap;

/// Devices that one claim may have.
pub const RESULTS_MAX: usize = 32;
/// Devices that are tried for one node: a claim with constraints that nothing meets could take
/// for ever otherwise. A second or so.
const TRIES_MAX: usize = 200_000;

#[derive(Debug, Clone)]
pub struct Claim {
    /// With namespace, for messages.
    pub name: String,
    pub requests: Vec<Request>,
    pub constraints: Vec<Constraint>,
}

#[derive(Debug, Clone)]
pub struct Request {
    /// The first that can be had counts.
    pub alternatives: Vec<Want>,
}

#[derive(Debug, Clone)]
pub struct Want {
    /// Its place among all wants of a pod.
    pub id: usize,
    /// `request`, or `request/alternative`.
    pub name: String,
    pub class: String,
    pub amount: Amount,
    /// It gets devices that others have, and they stay theirs.
    pub admin: bool,
    pub tolerations: Vec<DeviceToleration>,
    /// As much of each capacity must a device have.
    pub capacity: Vec<(String, Quantity)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    Count(usize),
    All,
}

/// Devices of these requests (of all, if none is named) have the same value of an attribute, or all have
/// different ones.
#[derive(Debug, Clone)]
pub struct Constraint {
    pub requests: Vec<String>,
    pub attribute: String,
    pub distinct: bool,
}

/// A device that the node reaches.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    pub pool: usize,
    pub slice: &'a Slice,
    pub device: &'a Device,
}

/// What can be had on a node.
pub struct Market<'a> {
    pub offers: Vec<Offer<'a>>,
    /// A pool whose slices are not all there, or contradict each other.
    pub broken: Option<String>,
    /// What is left of shared counters, by pool and set.
    pub left: BTreeMap<(usize, &'a str), Counters>,
}

pub struct Rules<'a> {
    /// Whether the selectors of the want and of its class choose the device.
    pub selects: &'a dyn Fn(&Want, &Device) -> Result<bool, String>,
    pub taken: &'a dyn Fn(&DeviceId) -> bool,
}

/// A device for a claim, by their places.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    pub claim: usize,
    pub want: &'a Want,
    pub offer: usize,
}

/// Devices for all claims, in the order of claims and requests; `None`: they cannot be had. An error is of
/// the claim's making: it cannot be had anywhere.
pub fn search<'a>(
    claims: &'a [Claim],
    market: Market<'_>,
    rules: &Rules<'_>,
) -> Result<Option<Vec<Chosen<'a>>>, String> {
    let mut search = Search {
        claims,
        used: vec![false; market.offers.len()],
        market,
        rules,
        chosen: Vec::new(),
        tries: 0,
    };
    Ok(search.request(0, 0)?.then_some(search.chosen))
}

struct Search<'a, 's> {
    claims: &'a [Claim],
    market: Market<'s>,
    rules: &'s Rules<'s>,
    used: Vec<bool>,
    chosen: Vec<Chosen<'a>>,
    tries: usize,
}

impl<'a, 's> Search<'a, 's> {
    /// Whether this request and all after it can be met.
    fn request(&mut self, claim: usize, at: usize) -> Result<bool, String> {
        let claims = self.claims;
        let Some(of) = claims.get(claim) else { return Ok(true) };
        let Some(request) = of.requests.get(at) else {
            return self.request(claim + 1, 0);
        };
        for want in &request.alternatives {
            let met = match want.amount {
                Amount::Count(count) => self.some((claim, at), want, count, 0)?,
                Amount::All => self.all((claim, at), want)?,
            };
            if met {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Devices of one request are alike to it: they are chosen in order.
    fn some(&mut self, at: (usize, usize), want: &'a Want, count: usize, from: usize) -> Result<bool, String> {
        if count == 0 {
            return self.request(at.0, at.1 + 1);
        }
        let offers = self.market.offers.len();
        for offer in from..offers {
            if offers - offer < count {
                break;
            }
            if !self.choose(at.0, want, offer)? {
                continue;
            }
            if self.some(at, want, count - 1, offer + 1)? {
                return Ok(true);
            }
            self.take_back();
        }
        Ok(false)
    }

    fn all(&mut self, at: (usize, usize), want: &'a Want) -> Result<bool, String> {
        if let Some(pool) = &self.market.broken {
            let (claim, request) = (&self.claims[at.0].name, &want.name);
            return Err(format!(
                "claim {claim}, request {request}: asks for all devices, but resource pool {pool}"
            ));
        }
        let before = self.chosen.len();
        let mut met = true;
        for offer in 0..self.market.offers.len() {
            if !(self.rules.selects)(want, self.market.offers[offer].device)? {
                continue;
            }
            met = self.choose(at.0, want, offer)?;
            if !met {
                break;
            }
        }
        if met && self.chosen.len() > before && self.request(at.0, at.1 + 1)? {
            return Ok(true);
        }
        while self.chosen.len() > before {
            self.take_back();
        }
        Ok(false)
    }

    fn choose(&mut self, claim: usize, want: &'a Want, offer: usize) -> Result<bool, String> {
        self.tries += 1;
        if self.tries > TRIES_MAX {
            let claim = &self.claims[claim].name;
            return Err(format!("claim {claim}: no devices were found in {TRIES_MAX} tries"));
        }
        let of = self.market.offers[offer];
        let own = self.chosen.iter().filter(|chosen| chosen.claim == claim);
        let (count, again) = own.fold((0, false), |(count, again), chosen| {
            (count + 1, again || chosen.offer == offer)
        });
        let had = !want.admin && (self.used[offer] || (self.rules.taken)(&of.device.id));
        if count >= RESULTS_MAX || again || had || !(self.rules.selects)(want, of.device)? {
            return Ok(false);
        }
        let enough = |(name, amount): &(String, Quantity)| of.device.capacity(name).is_some_and(|have| have >= *amount);
        if !of.device.tolerated(&want.tolerations)
            || !want.capacity.iter().all(enough)
            || !self.keeps_constraints(claim, want, of.device)
            || (!want.admin && !self.consume(of))
        {
            return Ok(false);
        }
        self.used[offer] |= !want.admin;
        self.chosen.push(Chosen { claim, want, offer });
        Ok(true)
    }

    fn take_back(&mut self) {
        let Some(chosen) = self.chosen.pop() else { return };
        if chosen.want.admin {
            return;
        }
        self.used[chosen.offer] = false;
        let of = self.market.offers[chosen.offer];
        for (set, amounts) in &of.device.consumes {
            let left = self.market.left.get_mut(&(of.pool, set.as_str()));
            for (name, left) in left.into_iter().flatten() {
                if let Some(amount) = amounts.get(name) {
                    *left = *left + *amount;
                }
            }
        }
    }

    fn keeps_constraints(&self, claim: usize, want: &Want, device: &Device) -> bool {
        let constraints = self.claims[claim].constraints.iter();
        constraints
            .filter(|constraint| constraint.is_about(want))
            .all(|constraint| {
                let Some(value) = device.attribute(&constraint.attribute) else {
                    return false;
                };
                let own = self.chosen.iter().filter(|chosen| chosen.claim == claim);
                let others = own.filter(|chosen| constraint.is_about(chosen.want));
                others.into_iter().all(|chosen| {
                    let other = self.market.offers[chosen.offer].device.attribute(&constraint.attribute);
                    (other == Some(value)) != constraint.distinct
                })
            })
    }

    /// Takes from the counters, if there is enough of all.
    fn consume(&mut self, of: Offer<'s>) -> bool {
        let consumes = &of.device.consumes;
        let enough = consumes.iter().all(|(set, amounts)| {
            let left = self.market.left.get(&(of.pool, set.as_str()));
            let mut amounts = amounts.iter();
            amounts.all(|(name, amount)| left.and_then(|left| left.get(name)).is_some_and(|left| left >= amount))
        });
        if enough {
            for (set, amounts) in consumes {
                let left = self.market.left.get_mut(&(of.pool, set.as_str()));
                for (name, left) in left.into_iter().flatten() {
                    if let Some(amount) = amounts.get(name) {
                        *left = *left - *amount;
                    }
                }
            }
        }
        enough
    }
}

impl Constraint {
    pub fn is_about(&self, want: &Want) -> bool {
        let request = want.name.split('/').next().unwrap_or_default();
        self.requests.is_empty() || self.requests.iter().any(|name| *name == want.name || name == request)
    }
}
