//! The one thing Skiff may put into somebody else's table: a marked accept.
//!
//! Accepting in our own table does not help where another table drops: Docker
//! sets the policy of `filter FORWARD` to drop. Our `forward` chain, which runs
//! before, marks what belongs to the cluster; this puts one rule that accepts the
//! mark into `DOCKER-USER` (Docker's place for it), or into a `FORWARD` that
//! drops. The rule is known by its comment, made once and removed by teardown.
//! Looked for when the node's dataplane starts: a firewall that is set up later
//! needs a restart of Skiff.

use super::nft;
use super::ruleset::{FORWARD_MARK, Family};
use crate::error::Error;

const COMMENT: &str = "comment \"skiff: pod traffic\"";

/// The chain of `table ip filter` that needs our accept, if it has none yet. Pure.
pub fn missing(listing: &str) -> Option<&'static str> {
    if !handles(listing).is_empty() {
        return None;
    }
    let chain = |name: &str| {
        listing
            .lines()
            .position(|line| line.trim().starts_with(&format!("chain {name} {{")))
    };
    if chain("DOCKER-USER").is_some() {
        return Some("DOCKER-USER");
    }
    let forward = listing
        .lines()
        .skip(chain("FORWARD")?)
        .take_while(|line| line.trim() != "}");
    let drops = forward
        .into_iter()
        .any(|line| line.contains("hook forward") && line.contains("policy drop"));
    drops.then_some("FORWARD")
}

/// Chain and handle of each rule of ours. Pure.
pub fn handles(listing: &str) -> Vec<(&str, &str)> {
    let (mut chain, mut found) = ("", Vec::new());
    for line in listing.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("chain ") {
            chain = rest.split(' ').next().unwrap_or_default();
        } else if line.contains(COMMENT)
            && let Some((_, handle)) = line.rsplit_once("# handle ")
        {
            found.push((chain, handle));
        }
    }
    found
}

pub async fn ask_for_accept(family: Family) -> Result<(), Error> {
    let Some(listing) = listing(family).await else {
        return Ok(());
    };
    let Some(chain) = missing(&listing) else { return Ok(()) };
    let k = family.keyword();
    tracing::info!(
        chain,
        "another firewall drops forwarded packets: adding one accept for the cluster's"
    );
    nft::apply(&format!(
        "insert rule {k} filter {chain} meta mark & {FORWARD_MARK:#x} == {FORWARD_MARK:#x} accept {COMMENT}\n"
    ))
    .await
}

pub async fn withdraw(family: Family) -> Result<(), Error> {
    let Some(listing) = listing(family).await else {
        return Ok(());
    };
    let k = family.keyword();
    let text: String = handles(&listing)
        .iter()
        .map(|(chain, handle)| format!("delete rule {k} filter {chain} handle {handle}\n"))
        .collect();
    if text.is_empty() {
        Ok(())
    } else {
        nft::apply(&text).await
    }
}

/// None where there is no such table: nobody to be a guest of.
async fn listing(family: Family) -> Option<String> {
    nft::list(&["-a", "list", "table", family.keyword(), "filter"]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_where_forwarding_is_dropped_and_only_once() {
        let forward = |policy: &str| {
            format!(
                "table ip filter {{ # handle 1\n\tchain FORWARD {{ # handle 2\n\t\ttype filter hook forward priority \
                 filter; policy {policy};\n\t}}\n"
            )
        };
        let user = "\tchain DOCKER-USER { # handle 9\n\t\tcounter return # handle 10\n\t}\n}\n";
        let ours =
            format!("\tchain DOCKER-USER {{ # handle 9\n\t\tmeta mark & 1 == 1 accept {COMMENT} # handle 12\n\t}}\n");
        for (listing, wanted) in [
            (forward("accept"), None),
            (forward("drop"), Some("FORWARD")),
            (forward("drop") + user, Some("DOCKER-USER")),
            (forward("accept") + user, Some("DOCKER-USER")),
            (forward("drop") + &ours, None),
        ] {
            assert_eq!(missing(&listing), wanted, "{listing}");
        }
        assert_eq!(handles(&(forward("drop") + &ours)), [("DOCKER-USER", "12")]);
    }
}
