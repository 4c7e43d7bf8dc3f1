//! The host's resolv.conf. Pure.

use std::net::IpAddr;

/// As the C library: the rest is ignored.
const SERVERS_MAX: usize = 3;

/// Name servers to forward to, in order. `own` is left out: a host whose
/// resolv.conf points at the cluster would otherwise ask us what we ask it.
pub fn name_servers(text: &str, own: IpAddr) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        // A link-local server carries its interface behind '%', which we cannot use.
        .filter_map(|word| word.parse().ok())
        .filter(|ip| *ip != own)
        .take(SERVERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_in_order_without_ourselves() {
        let text = "# x\nsearch a b\nnameserver 10.43.0.10\n nameserver 127.0.0.53 # stub\nnameserver fe80::1%eth0\n\
                    nameserver 1.1.1.1\nnameservers 9.9.9.9\nnameserver ::1\nnameserver 8.8.8.8";
        let found: Vec<String> = name_servers(text, "10.43.0.10".parse().unwrap())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["127.0.0.53", "1.1.1.1", "::1"]);
    }
}
