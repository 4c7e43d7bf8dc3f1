//! What a pod's claims say of nodes, and what they get on one. Pure.

use super::Devices;
use super::allocation::allocation;
use super::claim::{ClaimState, expressions};
use super::market::market;
use super::search::{Amount, Claim, Constraint, Offer, RESULTS_MAX, Request, Rules, Want, search};
use super::slice::{Device, DeviceId};
use crate::filter::Candidate;
use crate::memo::Memo;
use crate::pod::PodKey;
use crate::rules::Code;
use crate::selector::Labels;
use k8s_openapi::api::resource::v1::{
    AllocationResult, CapacityRequirements, DeviceRequest, DeviceSelector, DeviceSubRequest, DeviceToleration,
    ResourceClaim,
};
use skiff_cel::{Bindings, DEVICE_SELECTOR_COST_MAX, Env, Limits, device_value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// What a pod's claims of devices say of nodes.
pub enum Wants<'a> {
    /// Any node will do.
    Nothing,
    /// No node will do, in upstream's words.
    Waiting(String),
    Nodes(Box<Plan<'a>>),
}

/// A compiled selector; what is wrong with it, if it is.
#[derive(Debug, Clone)]
pub struct Program(Arc<Result<skiff_cel::Program, String>>);

static ENV: LazyLock<Env> = LazyLock::new(Env::for_devices);

impl Program {
    pub fn compile(expression: &str) -> Self {
        Self(Arc::new(ENV.compile(expression).map_err(|error| error.to_string())))
    }
}

pub struct Plan<'a> {
    devices: &'a Devices,
    /// Has a node selector already.
    held: Vec<&'a ClaimState>,
    keys: Vec<PodKey>,
    objects: Vec<&'a ResourceClaim>,
    claims: Vec<Claim>,
    /// By want: those of its class, then its own.
    programs: Vec<Vec<Program>>,
    /// By want and address of the device: nodes share pools.
    selected: RefCell<HashMap<(usize, usize), bool>>,
    /// What is wrong with a claim, rather than with a node.
    broken: RefCell<Option<String>>,
}

/// The pod's claims with their keys, once each; what it waits for if they are not there.
pub fn owned<'a>(devices: &'a Devices, candidate: &Candidate) -> Result<Vec<(PodKey, &'a Arc<ClaimState>)>, String> {
    let (namespace, pod) = &candidate.info.key;
    let mut found: Vec<(PodKey, &Arc<ClaimState>)> = Vec::new();
    for entry in &candidate.devices {
        let Some(name) = &entry.claim else {
            return Err(format!("pod \"{namespace}/{pod}\": ResourceClaim not found"));
        };
        if name.is_empty() {
            continue;
        }
        let key = (namespace.clone(), name.clone());
        let Some(claim) = devices.claim(&key) else {
            return Err(match entry.made {
                true => format!("waiting for dynamic resource controller to create the resourceclaim \"{name}\""),
                false => format!("resourceclaim \"{name}\" not found"),
            });
        };
        if claim.deleting {
            return Err(format!("resourceclaim \"{name}\" is being deleted"));
        }
        if entry.made && claim.owner.as_ref() != Some(&candidate.info.uid) {
            return Err(format!(
                "ResourceClaim {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
            ));
        }
        if !found.iter().any(|(known, _)| *known == key) {
            found.push((key, claim));
        }
    }
    Ok(found)
}

pub fn wants<'a>(devices: Option<&'a Devices>, memo: &mut Memo, candidate: &Candidate) -> Wants<'a> {
    let Some(devices) = devices.filter(|_| !candidate.devices.is_empty()) else {
        return Wants::Nothing;
    };
    match Plan::new(devices, memo, candidate) {
        Err(text) => Wants::Waiting(text),
        Ok(plan) if plan.claims.is_empty() && plan.held.is_empty() => Wants::Nothing,
        Ok(plan) => Wants::Nodes(Box::new(plan)),
    }
}

impl<'a> Plan<'a> {
    fn new(devices: &'a Devices, memo: &mut Memo, candidate: &Candidate) -> Result<Self, String> {
        let mut plan = Self {
            devices,
            held: Vec::new(),
            keys: Vec::new(),
            objects: Vec::new(),
            claims: Vec::new(),
            programs: Vec::new(),
            selected: RefCell::default(),
            broken: RefCell::default(),
        };
        for (key, claim) in owned(devices, candidate)? {
            let name = format!("{}/{}", key.0, key.1);
            if claim.allocated {
                if claim.full() && !claim.is_reserved_for(&candidate.info.uid) {
                    return Err("resourceclaim in use".into());
                }
                if claim.nodes.is_some() {
                    plan.held.push(claim);
                }
                continue;
            }
            if devices.is_in_flight(&key) {
                return Err(format!("resource claim {name} is in the process of being allocated"));
            }
            plan.add(name, key, &claim.object, memo)?;
        }
        Ok(plan)
    }

    fn add(&mut self, name: String, key: PodKey, claim: &'a ResourceClaim, memo: &mut Memo) -> Result<(), String> {
        let devices = claim.spec.devices.as_ref();
        let requests = devices
            .and_then(|devices| devices.requests.as_deref())
            .unwrap_or_default();
        let mut read = Vec::new();
        for request in requests {
            let mut alternatives = Vec::new();
            for ask in Ask::of(request) {
                alternatives.push(self.want(&name, ask, memo)?);
            }
            read.push(Request { alternatives });
        }
        let constraints = devices
            .and_then(|devices| devices.constraints.as_deref())
            .unwrap_or_default();
        let constraints = constraints.iter().filter_map(|constraint| {
            let distinct = constraint.match_attribute.is_none();
            let attribute = constraint
                .match_attribute
                .as_ref()
                .or(constraint.distinct_attribute.as_ref());
            Some(Constraint {
                requests: constraint.requests.clone().unwrap_or_default(),
                attribute: attribute?.clone(),
                distinct,
            })
        });
        self.claims.push(Claim {
            name,
            requests: read,
            constraints: constraints.collect(),
        });
        self.keys.push(key);
        self.objects.push(claim);
        Ok(())
    }

    fn want(&mut self, claim: &str, ask: Ask<'_>, memo: &mut Memo) -> Result<Want, String> {
        let Ask { name, class, .. } = &ask;
        let Some(known) = self.devices.classes.get(*class) else {
            return Err(format!("request {name}: device class {class} does not exist"));
        };
        let own = expressions(ask.selectors);
        let mut programs = Vec::new();
        for (index, expression) in known.selectors.iter().chain(&own).enumerate() {
            let program = memo.program(expression);
            if let Err(error) = &*program.0 {
                let index = index.checked_sub(known.selectors.len());
                let place = index.map_or_else(
                    || format!("class {class}"),
                    |index| format!("claim {claim}: selector #{index}"),
                );
                return Err(format!("{place}: CEL compile error: {error}"));
            }
            programs.push(program);
        }
        let count = usize::try_from(ask.count.unwrap_or(1)).unwrap_or(0);
        let amount = match ask.mode {
            Some("All") => Amount::All,
            _ => Amount::Count(count),
        };
        if matches!(amount, Amount::Count(count) if count > RESULTS_MAX) && !name.contains('/') {
            return Err(format!(
                "claim {claim}, request {name}: exceeds the claim limit of {RESULTS_MAX} devices"
            ));
        }
        let capacity = ask.capacity.and_then(|capacity| capacity.requests.as_ref());
        let capacity = capacity.into_iter().flatten();
        self.programs.push(programs);
        Ok(Want {
            id: self.programs.len() - 1,
            class: class.to_string(),
            amount,
            admin: ask.admin,
            tolerations: ask.tolerations.unwrap_or_default().to_vec(),
            capacity: capacity
                .filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?)))
                .collect(),
            name: ask.name,
        })
    }

    /// What is wrong with the claims: no node will do.
    pub fn broken(&self) -> Option<String> {
        self.broken.borrow().clone()
    }

    pub fn check(&self, node: &String, labels: &Labels) -> Code {
        let found = self.find(node, labels, |_| ());
        let held = |claim: &&ClaimState| {
            let mut terms = claim.nodes.iter().flatten();
            terms.any(|term| term.matches(node, labels))
        };
        match found {
            Ok(Some(())) if self.held.iter().all(held) => Code::Fits,
            Ok(Some(())) => Code::ClaimElsewhere,
            Ok(None) => Code::NoDevices,
            Err(error) => {
                self.broken.borrow_mut().get_or_insert(error);
                Code::NoDevices
            }
        }
    }

    /// What the claims without devices get on the node, if they can.
    pub fn allocate(&self, node: &String, labels: &Labels) -> Vec<(PodKey, AllocationResult, Vec<DeviceId>)> {
        let found = self.find(node, labels, |chosen| {
            let each = self.keys.iter().zip(&self.objects).enumerate();
            let of = each.map(|(at, (key, claim))| {
                let own = chosen.iter().filter(|(claim, ..)| *claim == at);
                let own: Vec<(&Want, Offer<'_>)> = own.map(|(_, want, offer)| (*want, *offer)).collect();
                let taken = own.iter().filter(|(want, _)| !want.admin);
                let taken = taken.map(|(_, offer)| offer.device.id.clone()).collect();
                (key.clone(), allocation(claim, &self.devices.classes, &own, node), taken)
            });
            of.collect()
        });
        found.ok().flatten().unwrap_or_default()
    }

    fn find<T>(
        &self,
        node: &String,
        labels: &Labels,
        take: impl FnOnce(&[(usize, &Want, Offer<'_>)]) -> T,
    ) -> Result<Option<T>, String> {
        if self.claims.is_empty() {
            return Ok(Some(take(&[])));
        }
        let market = market(self.devices, node, labels);
        let offers = market.offers.clone();
        let selects = |want: &Want, device: &Device| self.selects(want, device);
        let taken = |device: &DeviceId| self.devices.is_taken(device);
        let rules = Rules {
            selects: &selects,
            taken: &taken,
        };
        let chosen = search(&self.claims, market, &rules)?;
        Ok(chosen.map(|chosen| {
            let all = chosen.iter().map(|one| (one.claim, one.want, offers[one.offer]));
            take(&all.collect::<Vec<_>>())
        }))
    }

    fn selects(&self, want: &Want, device: &Device) -> Result<bool, String> {
        let key = (want.id, std::ptr::from_ref(device).addr());
        if let Some(known) = self.selected.borrow().get(&key) {
            return Ok(*known);
        }
        let answer = self.evaluate(want, device)?;
        self.selected.borrow_mut().insert(key, answer);
        Ok(answer)
    }

    fn evaluate(&self, want: &Want, device: &Device) -> Result<bool, String> {
        for (index, program) in self.programs[want.id].iter().enumerate() {
            let Ok(program) = &*program.0 else { return Ok(false) };
            let mut bindings = Bindings::new();
            let seen = device_value(&device.id.driver, &device.seen).map_err(|error| error.to_string())?;
            bindings.set("device", seen);
            let limits = Limits {
                cost: DEVICE_SELECTOR_COST_MAX,
                ..Limits::default()
            };
            match program.evaluate(&bindings, limits).value {
                Ok(value) if value.as_bool() == Some(true) => {}
                Ok(value) if value.as_bool().is_some() => return Ok(false),
                Ok(_) => return Err(format!("request {}: selector #{index} gives no bool", want.name)),
                Err(error) => {
                    return Err(format!(
                        "request {}: selector #{index}: CEL runtime error: {error}",
                        want.name
                    ));
                }
            }
        }
        Ok(true)
    }
}

/// A request's only want, or one of its alternatives.
struct Ask<'a> {
    name: String,
    class: &'a str,
    selectors: Option<&'a [DeviceSelector]>,
    mode: Option<&'a str>,
    count: Option<i64>,
    admin: bool,
    tolerations: Option<&'a [DeviceToleration]>,
    capacity: Option<&'a CapacityRequirements>,
}

impl<'a> Ask<'a> {
    fn of(request: &'a DeviceRequest) -> Vec<Self> {
        let exactly = request.exactly.iter().map(|ask| Self {
            name: request.name.clone(),
            class: &ask.device_class_name,
            selectors: ask.selectors.as_deref(),
            mode: ask.allocation_mode.as_deref(),
            count: ask.count,
            admin: ask.admin_access == Some(true),
            tolerations: ask.tolerations.as_deref(),
            capacity: ask.capacity.as_ref(),
        });
        let several = request.first_available.iter().flatten();
        let several = several.map(|ask: &DeviceSubRequest| Self {
            name: format!("{}/{}", request.name, ask.name),
            class: &ask.device_class_name,
            selectors: ask.selectors.as_deref(),
            mode: ask.allocation_mode.as_deref(),
            count: ask.count,
            admin: false,
            tolerations: ask.tolerations.as_deref(),
            capacity: ask.capacity.as_ref(),
        });
        exactly.chain(several).collect()
    }
}
