//! The other end of a connection, and for whom it may speak: only for itself, or, if it is a trusted proxy, for
//! the client it names.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::dispatch::ExecutorContext;
use crate::config::{Proxies, ProxyProtocol};
use crate::gateway::ConnectionFacts;
use crate::http::{Connection, Forwarded, ProxyHeader, ProxyVersions, RequestFault, RequestHead, Scheme};

/// What is believed of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// No proxy is configured: fields are passed on and nothing is concluded from them.
    Unasked,
    /// It is a trusted proxy.
    Trusted,
    /// It is not one: fields that only a proxy may send are dropped.
    Untrusted,
}

impl Trust {
    fn of(proxies: &Proxies, peer: Option<SocketAddr>) -> Self {
        if proxies.is_unused() {
            Self::Unasked
        } else if proxies.trusts(peer) {
            Self::Trusted
        } else {
            Self::Untrusted
        }
    }
}

/// The peer of a connection, and the client that it speaks for.
#[derive(Debug)]
pub(super) struct Peer {
    /// The ends of the connection, as a trusted proxy names them or as they are.
    pub(super) facts: Arc<ConnectionFacts>,
    /// Whose request it is that is being served; `None` where that has no address.
    pub(super) client: Option<IpAddr>,
    trust: Trust,
}

impl Peer {
    /// The peer of a connection that was just accepted.
    pub(super) fn new(facts: ConnectionFacts, proxies: &Proxies) -> Self {
        let client = facts.peer.map(|peer| peer.ip());
        Self { client, trust: Trust::of(proxies, facts.peer), facts: Arc::new(facts) }
    }

    /// The HTTP of its connection: a trusted proxy's may have to begin with a header of the PROXY protocol.
    pub(super) fn machine(&self, executor: &ExecutorContext) -> Connection {
        let (limits, keep_alive, now) =
            (Arc::clone(&executor.http_limits), executor.config.keep_alive, executor.reactor.now());
        let versions = match executor.config.proxies.protocol {
            _ if self.trust != Trust::Trusted => None,
            ProxyProtocol::Off => None,
            ProxyProtocol::V1 => Some(ProxyVersions::V1),
            ProxyProtocol::V2 => Some(ProxyVersions::V2),
            ProxyProtocol::On => Some(ProxyVersions::Both),
        };
        match versions {
            None => Connection::new(limits, keep_alive, now),
            Some(versions) => Connection::behind_proxy(limits, keep_alive, versions, now),
        }
    }

    /// The peer for which a trusted proxy relays this connection: what follows is that one's, not the proxy's.
    pub(super) fn relayed(&self, header: &ProxyHeader, proxies: &Proxies) -> Self {
        let ConnectionFacts { peer, local, .. } = *self.facts;
        let (peer, local) =
            header.ends.map_or((peer, local), |ends| (Some(ends.source), Some(ends.destination)));
        Self::new(ConnectionFacts { peer, local, is_tls: header.is_tls }, proxies)
    }

    /// What a head says of its client, if this peer may say it; what it may not say is taken out.
    ///
    /// # Errors
    /// As of [`Forwarded::read`]; [`RequestFault::Misdirected`].
    pub(super) fn resolve_client(
        &mut self,
        head: &mut RequestHead,
        proxies: &Proxies,
    ) -> Result<Option<Box<Forwarded>>, RequestFault> {
        let forwarded = self.forwarded(head, proxies)?;
        if head.is_https_target() {
            let scheme = forwarded.as_ref().and_then(|forwarded| forwarded.scheme);
            let is_tls = scheme.map_or(self.facts.is_tls, |scheme| scheme == Scheme::Https);
            is_tls.then_some(()).ok_or(RequestFault::Misdirected)?;
        }
        Ok(forwarded)
    }

    fn forwarded(
        &mut self,
        head: &mut RequestHead,
        proxies: &Proxies,
    ) -> Result<Option<Box<Forwarded>>, RequestFault> {
        match self.trust {
            Trust::Unasked => Ok(None),
            Trust::Untrusted => {
                Forwarded::forget(head);
                Ok(None)
            }
            Trust::Trusted => {
                self.client = self.facts.peer.map(|peer| peer.ip());
                let forwarded = Forwarded::read(head, &|address| proxies.trusts_address(address))?;
                let client = forwarded.as_ref().and_then(|forwarded| forwarded.client);
                self.client = client.map(|client| client.address).or(self.client);
                Ok(forwarded.map(Box::new))
            }
        }
    }
}
