//! The service proxy: keeps the tables `ip skiff` and `ip6 skiff` as the
//! cluster's tables want them.
//!
//! `model`, `ruleset` and `transaction` decide, `nft` and `flows` act. The transaction goes
//! through the `nft` program for now; an encoder that speaks nfnetlink itself
//! takes the same [`transaction::Transaction`] later. After a restart the whole
//! table is replaced in one transaction: nothing that is translated is dropped.
//!
//! Must not touch any table but its own; `guest` is the one exception.

mod conntrack;
mod flows;
mod guest;
pub mod model;
mod nft;
pub mod ruleset;
pub mod transaction;

use crate::config::NetworkConfig;
use crate::error::Error;
use crate::view::ClusterView;
use model::Model;
use ruleset::{Family, Ruleset, Site};
use std::net::IpAddr;

pub struct Proxy {
    node: String,
    cluster_dns: IpAddr,
    model: Model,
    tables: Vec<(Site, Option<Ruleset>)>,
}

impl Proxy {
    pub fn new(config: &NetworkConfig) -> Proxy {
        let nets = || {
            config
                .cluster_cidrs
                .iter()
                .chain(&config.service_cidrs)
                .chain([&config.pod_cidr])
        };
        let site = |family: Family| Site {
            family,
            pod_cidrs: vec![config.pod_cidr],
            cluster_cidrs: config.cluster_cidrs.clone(),
            service_cidrs: config.service_cidrs.clone(),
            cluster_dns: Some(config.cluster_dns),
        };
        let tables = [Family::V4, Family::V6]
            .into_iter()
            .filter(|family| nets().any(|net| family.has(net.addr())))
            .map(|family| (site(family), None))
            .collect();
        Proxy {
            node: config.node_name.clone(),
            cluster_dns: config.cluster_dns,
            model: Model::default(),
            tables,
        }
    }

    /// Brings the kernel to what the view wants. On failure the next call begins
    /// with the whole table.
    pub async fn apply(&mut self, view: &ClusterView) -> Result<(), Error> {
        let model = model::read(view, &self.node, self.cluster_dns);
        for (site, current) in &mut self.tables {
            let wanted = ruleset::desired(&model, site);
            let whole = current.is_none();
            let change = match current.as_ref() {
                Some(current) => transaction::diff(current, &wanted),
                None => transaction::full(&wanted),
            };
            if !change.ops.is_empty() {
                *current = None;
                nft::apply(&transaction::render(&change)).await?;
            }
            *current = Some(wanted);
            if whole && let Err(error) = guest::ask_for_accept(site.family).await {
                // Not fatal: the other table may well let our packets through.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "another firewall may drop pods' packets"
                );
            }
        }
        flows::forget(flows::stale(&self.model, &model)).await;
        self.model = model;
        Ok(())
    }
}

/// Removes our tables and our rule in others'; fine when there are none.
pub async fn teardown() -> Vec<Error> {
    let table = |family: Family| format!("add table {0} skiff\ndelete table {0} skiff\n", family.keyword());
    let mut errors = Vec::new();
    for family in [Family::V4, Family::V6] {
        errors.extend(guest::withdraw(family).await.err());
        errors.extend(nft::apply(&table(family)).await.err());
    }
    errors
}
