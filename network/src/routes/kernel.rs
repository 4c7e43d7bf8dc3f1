//! Routes, the VXLAN link and its entries in the kernel, by difference from
//! what stands there. Ours are known by the route protocol and by the link, so
//! leftovers of an earlier run are found and removed.

use super::{LINK, Mac, PORT, PROTOCOL, Plan, Tunnel, VNI, Via};
use crate::error::Error;
use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The loopback link's index in every namespace.
pub const LO: u32 = 1;
/// What the CNI plugin calls the host ends of pods' links.
const POD_LINK_PREFIX: &str = "skv";
const TABLE_MAIN: u8 = 254;

pub struct Kernel {
    handle: Handle,
    /// Ends the connection with the last user.
    _connection: tokio_util::task::AbortOnDropHandle<()>,
}

fn failed(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    let action = action.into();
    move |source| Error::Netlink { action, source }
}

/// `EEXIST`, `ENOENT` and the like, where the wanted state is already there.
fn unless(result: Result<(), rtnetlink::Error>, fine: &[i32]) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(message)) if fine.contains(&-message.raw_code()) => Ok(()),
        other => other,
    }
}

#[derive(Debug, Clone)]
pub struct LocalAddress {
    pub link: u32,
    pub net: IpNet,
}

impl Kernel {
    /// Works in the network namespace of the calling thread, for good.
    pub fn open() -> Result<Kernel, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        Ok(Kernel {
            handle,
            _connection: task,
        })
    }

    pub async fn addresses(&self) -> Result<Vec<LocalAddress>, Error> {
        let list: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("list addresses"))?;
        let mut found = Vec::new();
        for message in list {
            let local = message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            let any = message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            if let Some(net) = local
                .or(any)
                .and_then(|ip| IpNet::new(ip, message.header.prefix_len).ok())
            {
                found.push(LocalAddress {
                    link: message.header.index,
                    net,
                });
            }
        }
        Ok(found)
    }

    async fn link(&self, name: &str) -> Option<LinkMessage> {
        self.handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute()
            .try_next()
            .await
            .ok()
            .flatten()
    }

    pub async fn mtu(&self, link: u32) -> Option<u32> {
        let message = self
            .handle
            .link()
            .get()
            .match_index(link)
            .execute()
            .try_next()
            .await
            .ok()??;
        message.attributes.iter().find_map(|a| match a {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
    }

    /// An address of the node itself on `lo`, of host scope: the kernel never
    /// chooses it as the source of what the node sends elsewhere.
    pub async fn add_host_address(&self, ip: IpAddr) -> Result<(), Error> {
        let action = format!("give lo the address {ip}");
        let up = LinkUnspec::new_with_index(LO).up().build();
        self.handle
            .link()
            .set(up)
            .execute()
            .await
            .map_err(failed("set lo up"))?;
        let mut request = self.handle.address().add(LO, ip, bits(ip));
        request.message_mut().header.scope = AddressScope::Host;
        unless(request.execute().await, &[libc::EEXIST]).map_err(failed(action))
    }

    pub async fn remove_host_address(&self, ip: IpAddr) -> Result<(), Error> {
        let list: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("list addresses"))?;
        for message in list {
            let ours = message.header.index == LO
                && message
                    .attributes
                    .iter()
                    .any(|a| matches!(a, AddressAttribute::Local(x) | AddressAttribute::Address(x) if *x == ip));
            if ours {
                let removed = self.handle.address().del(message).execute().await;
                unless(removed, &[libc::EADDRNOTAVAIL]).map_err(failed(format!("remove {ip} from lo")))?;
            }
        }
        Ok(())
    }

    /// A way out for packets to a range that only the output rules give a
    /// meaning: without it a node that has no default route could not even try.
    pub async fn add_service_route(&self, range: IpNet, source: Option<IpAddr>) -> Result<(), Error> {
        let mut route = base(range).output_interface(LO).scope(RouteScope::Link).build();
        route
            .attributes
            .extend(source.map(|ip| RouteAttribute::PrefSource(ip.into())));
        let added = self.handle.route().add(route).replace().execute().await;
        added.map_err(failed(format!("route the service range {range}")))
    }

    /// Our routes that stand.
    async fn routes(&self) -> Result<BTreeMap<IpNet, RouteMessage>, Error> {
        let mut found = BTreeMap::new();
        for v4 in [true, false] {
            let filter = if v4 {
                RouteMessageBuilder::<Ipv4Addr>::new().build()
            } else {
                RouteMessageBuilder::<Ipv6Addr>::new().build()
            };
            let list: Vec<RouteMessage> = match self.handle.route().get(filter).execute().try_collect().await {
                Ok(list) => list,
                // A kernel without IPv6.
                Err(_) if !v4 => continue,
                Err(error) => return Err(failed("list routes")(error)),
            };
            for route in list {
                let ours = route.header.protocol == RouteProtocol::from(PROTOCOL) && route.header.table == TABLE_MAIN;
                if let Some(net) = destination(&route).filter(|_| ours) {
                    found.insert(net, route);
                }
            }
        }
        Ok(found)
    }

    pub async fn apply(&self, plan: &Plan, services: &[IpNet], underlay: u32, mtu: u32) -> Result<(), Error> {
        let tunnel = match &plan.tunnel {
            Some(tunnel) => Some(self.ensure_tunnel(tunnel, underlay, mtu).await?),
            None => None,
        };
        if let Some(link) = tunnel {
            self.apply_neighbours(link, plan).await?;
        }
        let standing = self.routes().await?;
        for (range, route) in &standing {
            if !plan.routes.contains_key(range) && !services.contains(range) {
                let removed = self.handle.route().del(route.clone()).execute().await;
                unless(removed, &[libc::ESRCH]).map_err(failed(format!("remove the route to {range}")))?;
            }
        }
        for (range, via) in &plan.routes {
            let (gateway, link) = match via {
                Via::Node(ip) => (*ip, None),
                Via::Tunnel(ip) => (*ip, tunnel),
            };
            if standing.get(range).is_some_and(|route| same(route, gateway, link)) {
                continue;
            }
            let mut builder = base(*range);
            if let Some(link) = link {
                builder = builder.output_interface(link).onlink();
            }
            let mut route = builder.build();
            route.attributes.push(RouteAttribute::Gateway(gateway.into()));
            let added = self.handle.route().add(route).replace().execute().await;
            added.map_err(failed(format!("route {range} via {gateway}")))?;
        }
        if tunnel.is_none() {
            self.remove_tunnel().await?;
        }
        Ok(())
    }

    async fn ensure_tunnel(&self, tunnel: &Tunnel, underlay: u32, mtu: u32) -> Result<u32, Error> {
        if let Some(link) = self.link(LINK).await {
            let same_mac = link
                .attributes
                .iter()
                .any(|a| matches!(a, LinkAttribute::Address(m) if *m == tunnel.mac));
            if same_mac {
                return Ok(link.header.index);
            }
            // The node's address changed, and with it everything about the link.
            self.remove_tunnel().await?;
        }
        let mut builder = LinkVxlan::new(LINK, VNI)
            .port(PORT)
            .learning(false)
            .address(tunnel.mac.to_vec())
            .mtu(mtu)
            .up();
        builder = match tunnel.local {
            IpAddr::V4(ip) => builder.local(ip),
            IpAddr::V6(ip) => builder.local6(ip),
        };
        if underlay > 0 {
            builder = builder.dev(underlay);
        }
        let added = self.handle.link().add(builder.build()).execute().await;
        unless(added, &[libc::EEXIST]).map_err(failed(format!("create the VXLAN link {LINK}")))?;
        let link = self.link(LINK).await.map(|link| link.header.index).unwrap_or_default();
        let address = self
            .handle
            .address()
            .add(link, tunnel.address, bits(tunnel.address))
            .execute()
            .await;
        unless(address, &[libc::EEXIST]).map_err(failed(format!("give {LINK} the address {}", tunnel.address)))?;
        Ok(link)
    }

    async fn apply_neighbours(&self, link: u32, plan: &Plan) -> Result<(), Error> {
        let standing: Vec<NeighbourMessage> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("list neighbours"))?;
        let of_link = standing.iter().filter(|n| n.header.ifindex == link);
        let mut known = BTreeSet::new();
        for entry in of_link {
            match (destination_of(entry), mac_of(entry)) {
                (Some(ip), Some(mac)) if plan.neighbours.get(&ip) == Some(&mac) => {
                    known.insert(ip);
                }
                // Multicast entries are the kernel's own.
                (Some(ip), _) if ip.is_multicast() => {}
                _ => {
                    let removed = self.handle.neighbours().del(entry.clone()).execute().await;
                    unless(removed, &[libc::ENOENT]).map_err(failed("remove a neighbour"))?;
                }
            }
        }
        for (ip, mac) in plan.neighbours.iter().filter(|(ip, _)| !known.contains(*ip)) {
            let added = self
                .handle
                .neighbours()
                .add(link, *ip)
                .link_layer_address(mac)
                .replace()
                .execute()
                .await;
            added.map_err(failed(format!("set the neighbour {ip}")))?;
        }
        self.apply_forwarding(link, &plan.forwarding).await
    }

    async fn apply_forwarding(&self, link: u32, wanted: &BTreeMap<Mac, IpAddr>) -> Result<(), Error> {
        let dump = self
            .handle
            .neighbours()
            .get()
            .set_address_family(AddressFamily::Bridge)
            .execute();
        let standing: Vec<NeighbourMessage> = dump.try_collect().await.map_err(failed("list forwarding entries"))?;
        let mut known = BTreeSet::new();
        for entry in standing.iter().filter(|n| n.header.ifindex == link) {
            match (mac_of(entry), destination_of(entry)) {
                (Some(mac), Some(ip)) if wanted.get(&mac) == Some(&ip) => {
                    known.insert(mac);
                }
                _ => {
                    let removed = self.handle.neighbours().del(entry.clone()).execute().await;
                    unless(removed, &[libc::ENOENT]).map_err(failed("remove a forwarding entry"))?;
                }
            }
        }
        for (mac, node) in wanted.iter().filter(|(mac, _)| !known.contains(*mac)) {
            let request = self.handle.neighbours().add_bridge(link, mac).destination(*node);
            let added = request.flags(NeighbourFlags::Own).replace().execute().await;
            added.map_err(failed(format!("forward to node {node}")))?;
        }
        Ok(())
    }

    pub async fn remove_tunnel(&self) -> Result<(), Error> {
        let Some(link) = self.link(LINK).await else {
            return Ok(());
        };
        let removed = self.handle.link().del(link.header.index).execute().await;
        unless(removed, &[libc::ENODEV]).map_err(failed(format!("delete {LINK}")))
    }

    /// Removes every route of ours and the tunnel; carries on over failures.
    pub async fn teardown(&self) -> Vec<Error> {
        let mut errors = Vec::new();
        match self.routes().await {
            Ok(routes) => {
                for (range, route) in routes {
                    let removed = self.handle.route().del(route).execute().await;
                    errors.extend(
                        unless(removed, &[libc::ESRCH])
                            .map_err(failed(format!("remove the route to {range}")))
                            .err(),
                    );
                }
            }
            Err(error) => errors.push(error),
        }
        errors.extend(self.remove_tunnel().await.err());
        errors.extend(self.remove_pod_links().await);
        errors
    }

    /// Links of pods that went without the plugin being told.
    async fn remove_pod_links(&self) -> Vec<Error> {
        let links: Vec<LinkMessage> = match self.handle.link().get().execute().try_collect().await {
            Ok(links) => links,
            Err(error) => return vec![failed("list links")(error)],
        };
        let mut errors = Vec::new();
        for link in links {
            let name = link.attributes.iter().find_map(|a| match a {
                LinkAttribute::IfName(name) if name.starts_with(POD_LINK_PREFIX) => Some(name.clone()),
                _ => None,
            });
            let Some(name) = name else { continue };
            let removed = self.handle.link().del(link.header.index).execute().await;
            errors.extend(
                unless(removed, &[libc::ENODEV])
                    .map_err(failed(format!("delete {name}")))
                    .err(),
            );
        }
        errors
    }
}

fn base(range: IpNet) -> RouteMessageBuilder<IpAddr> {
    RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(range.addr(), range.prefix_len())
        .expect("IpNet keeps its prefix length within its family's")
        .protocol(RouteProtocol::from(PROTOCOL))
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn address(found: &RouteAddress) -> Option<IpAddr> {
    match found {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(ip) => IpNet::new(address(ip)?, route.header.destination_prefix_length).ok(),
        _ => None,
    })
}

fn same(route: &RouteMessage, gateway: IpAddr, link: Option<u32>) -> bool {
    let via = route
        .attributes
        .iter()
        .any(|a| matches!(a, RouteAttribute::Gateway(ip) if address(ip) == Some(gateway)));
    let on = link.is_none_or(|link| {
        route
            .attributes
            .iter()
            .any(|a| matches!(a, RouteAttribute::Oif(at) if *at == link))
    });
    via && on
}

fn destination_of(entry: &NeighbourMessage) -> Option<IpAddr> {
    entry.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some((*ip).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    })
}

fn mac_of(entry: &NeighbourMessage) -> Option<Mac> {
    entry.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    })
}
