//! Eviction thresholds as kubelet's flags write them: `memory.available<100Mi`,
//! `nodefs.available<10%`. Pure.

use crate::pod::resources::quantity;
use jiff::SignedDuration;
use std::collections::BTreeMap;

/// What is watched. The order is the one in which shortages are dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    Memory,
    /// What pods together may still take: of the node's memory, what is not kept for others.
    AllocatableMemory,
    Nodefs,
    Imagefs,
    NodefsInodes,
    ImagefsInodes,
    Pids,
}

const SIGNALS: [(Signal, &str); 7] = [
    (Signal::Memory, "memory.available"),
    (Signal::AllocatableMemory, "allocatableMemory.available"),
    (Signal::Nodefs, "nodefs.available"),
    (Signal::Imagefs, "imagefs.available"),
    (Signal::NodefsInodes, "nodefs.inodesFree"),
    (Signal::ImagefsInodes, "imagefs.inodesFree"),
    (Signal::Pids, "pid.available"),
];

/// What the node's status says of a shortage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    Memory,
    Disk,
    Pid,
}

impl Pressure {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

impl Signal {
    fn parse(name: &str) -> Result<Self, String> {
        let found = SIGNALS.iter().find(|(_, known)| *known == name);
        found
            .map(|(signal, _)| *signal)
            .ok_or_else(|| format!("unsupported eviction signal {name}"))
    }

    pub fn name(self) -> &'static str {
        let found = SIGNALS.iter().find(|(signal, _)| *signal == self);
        found.map_or("", |(_, name)| name)
    }

    pub fn pressure(self) -> Pressure {
        match self {
            Self::Memory | Self::AllocatableMemory => Pressure::Memory,
            Self::Pids => Pressure::Pid,
            _ => Pressure::Disk,
        }
    }

    /// The resource that is short, as messages name it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Memory | Self::AllocatableMemory => "memory",
            Self::Nodefs | Self::Imagefs => "ephemeral-storage",
            Self::NodefsInodes | Self::ImagefsInodes => "inodes",
            Self::Pids => "pids",
        }
    }

    /// Bytes are written with powers of 1024, counts are not.
    pub fn text(self, amount: i64) -> String {
        match self {
            Self::Memory | Self::AllocatableMemory | Self::Nodefs | Self::Imagefs => quantity::binary(amount),
            _ => amount.to_string(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    /// With the text that it was given as.
    Whole(i64, String),
    /// Of the capacity, in percent.
    Share(f64),
}

impl Amount {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither a positive quantity nor a percentage");
        if let Some(percent) = text.strip_suffix('%') {
            let share: f64 = percent.parse().map_err(|_| wrong())?;
            return if (0.0..=100.0).contains(&share) {
                Ok(Self::Share(share))
            } else {
                Err(wrong())
            };
        }
        let whole = quantity::milli(text).map(quantity::of_milli).filter(|v| *v >= 0);
        Ok(Self::Whole(whole.ok_or_else(wrong)?, text.to_owned()))
    }

    /// As it was given.
    pub fn text(&self) -> String {
        match self {
            Self::Whole(_, text) => text.clone(),
            Self::Share(percent) => format!("{percent}%"),
        }
    }

    pub fn of(&self, capacity: i64) -> i64 {
        match self {
            Self::Whole(amount, _) => *amount,
            // A share of a capacity is no more than that.
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            Self::Share(percent) => (capacity as f64 * percent / 100.0) as i64,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub value: Amount,
    /// None: hard, pods go at once. Else how long it may be crossed.
    pub grace: Option<SignedDuration>,
    /// How much more than the value is to be free again.
    pub reclaim: Option<Amount>,
    /// It follows from another one.
    pub implied: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub thresholds: Vec<Threshold>,
    /// How long a pressure is told after it was last seen.
    pub transition: SignedDuration,
    /// The longest that a pod may take to end when a soft threshold was crossed.
    pub grace_s_max: i64,
}

/// As kubelet's, but for disks: those of small machines are often fuller than 85 %.
pub const HARD: &str =
    "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%";

impl Default for Settings {
    fn default() -> Self {
        Self::parse(HARD, "", "", "").unwrap_or(Self {
            thresholds: Vec::new(),
            transition: TRANSITION,
            grace_s_max: 0,
        })
    }
}

const TRANSITION: SignedDuration = SignedDuration::from_mins(5);

/// `name<separator>value` pairs, separated by commas; each name once.
fn pairs(text: &str, separator: char) -> Result<BTreeMap<Signal, &str>, String> {
    let mut all = BTreeMap::new();
    for statement in text.split(',').map(str::trim).filter(|s| !s.is_empty()) {
        let (name, value) = statement
            .split_once(separator)
            .ok_or_else(|| format!("invalid eviction statement {statement:?}: write <signal>{separator}<value>"))?;
        if all.insert(Signal::parse(name)?, value).is_some() {
            return Err(format!("the eviction signal {name} is given twice"));
        }
    }
    Ok(all)
}

/// `90s`, `1m30s`, `2h`.
fn duration(text: &str) -> Result<SignedDuration, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no duration; write 90s or 1m30s"))
}

impl Settings {
    /// From the flags `--eviction-hard`, `--eviction-soft`, `--eviction-soft-grace-period`
    /// and `--eviction-minimum-reclaim`.
    pub fn parse(hard: &str, soft: &str, grace: &str, reclaim: &str) -> Result<Self, String> {
        let (grace, reclaim) = (pairs(grace, '=')?, pairs(reclaim, '=')?);
        let mut thresholds = Vec::new();
        for (text, is_soft) in [(hard, false), (soft, true)] {
            for (signal, value) in pairs(text, '<')? {
                let grace = match (is_soft, grace.get(&signal)) {
                    (false, _) => None,
                    (true, Some(text)) => Some(duration(text)?),
                    (true, None) => {
                        return Err(format!(
                            "a grace period must be given for the soft eviction threshold {value}"
                        ));
                    }
                };
                let value = Amount::parse(value)?;
                // Nothing is ever below zero: that is how a threshold is turned off.
                if value.of(i64::MAX) > 0 {
                    let reclaim = reclaim.get(&signal).map(|text| Amount::parse(text)).transpose()?;
                    thresholds.push(Threshold {
                        signal,
                        value,
                        grace,
                        reclaim,
                        implied: false,
                    });
                }
            }
        }
        // Pods that take what others were to have go before the kernel stops one of them.
        let hard = |t: &&Threshold| t.signal == Signal::Memory && t.grace.is_none();
        let implied = thresholds.iter().find(hard).map(|of| Threshold {
            signal: Signal::AllocatableMemory,
            implied: true,
            ..of.clone()
        });
        thresholds.extend(implied);
        Ok(Self {
            thresholds,
            transition: TRANSITION,
            grace_s_max: 0,
        })
    }

    /// What pods cannot have because they would be evicted before: that of hard thresholds.
    pub fn kept_back(&self, signal: Signal, capacity: i64) -> i64 {
        let hard = self.thresholds.iter().find(|t| t.signal == signal && t.grace.is_none());
        hard.map_or(0, |t| t.value.of(capacity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let found = Settings::parse(
            "memory.available<100Mi,nodefs.available<0%",
            "memory.available<1Gi, pid.available<5%",
            "memory.available=1m30s,pid.available=0s",
            "memory.available=200Mi",
        )
        .expect("right");
        let seen: Vec<(Signal, i64, Option<i64>, Option<i64>)> = found
            .thresholds
            .iter()
            .map(|t| {
                let reclaim = t.reclaim.as_ref().map(|r| r.of(0) >> 20);
                (t.signal, t.value.of(1_000), t.grace.map(|g| g.as_secs()), reclaim)
            })
            .collect();
        assert_eq!(
            seen,
            [
                (Signal::Memory, 100 << 20, None, Some(200)),
                (Signal::Memory, 1 << 30, Some(90), Some(200)),
                (Signal::Pids, 50, Some(0), None),
                (Signal::AllocatableMemory, 100 << 20, None, Some(200)),
            ]
        );
        assert_eq!(found.kept_back(Signal::Memory, 1 << 40), 100 << 20);
        for (hard, soft, grace, reclaim) in [
            ("memory.available", "", "", ""),
            ("memory<1", "", "", ""),
            ("memory.available<-1Gi", "", "", ""),
            ("memory.available<x%", "", "", ""),
            ("memory.available<101%", "", "", ""),
            ("memory.available<1Gi,memory.available<2Gi", "", "", ""),
            ("", "memory.available<1Gi", "", ""),
            ("", "memory.available<1Gi", "memory.available=soon", ""),
            ("memory.available<1Gi", "", "", "memory.available=-1"),
        ] {
            assert!(
                Settings::parse(hard, soft, grace, reclaim).is_err(),
                "{hard} {soft} {grace} {reclaim}"
            );
        }
        let implied = Settings::default().thresholds.into_iter().filter(|t| t.implied);
        assert_eq!(
            implied.map(|t| t.signal).collect::<Vec<_>>(),
            [Signal::AllocatableMemory]
        );
        let soft = Settings::parse("", "memory.available<1Gi", "memory.available=1m", "").expect("right");
        assert_eq!(soft.thresholds.len(), 1, "soft ones are about the node alone");
    }
}
