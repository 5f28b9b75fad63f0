//! Who stands in front of the server and may say whom it speaks for: `--trusted-proxies` and `--proxy-protocol`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{ConfigError, Description, RawOptions};
use crate::limits::TRUSTED_PROXIES_MAX;

const TRUSTED: &str = "--trusted-proxies";
const PROTOCOL: &str = "--proxy-protocol";
const UNIX: &str = "unix";
const FORMS: &str = "addresses, networks such as 10.0.0.0/8, and unix, with commas between";

/// The proxies that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    /// The networks from which they connect.
    pub networks: Vec<Network>,
    /// Whether peers on unix sockets are.
    pub unix: bool,
    /// How they begin each connection.
    pub protocol: ProxyProtocol,
}

/// Which versions of the PROXY protocol trusted proxies speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyProtocol {
    /// None: a connection begins with a request.
    #[default]
    Off,
    /// Version 1.
    V1,
    /// Version 2.
    V2,
    /// Either.
    On,
}

/// All addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Proxies {
    /// Whether none are configured: then forwarded fields are not looked at.
    pub fn is_unused(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether a connection from `peer`, `None` on a unix socket, is a trusted proxy's.
    pub fn trusts(&self, peer: Option<SocketAddr>) -> bool {
        peer.map_or(self.unix, |peer| self.trusts_address(peer.ip()))
    }

    /// Whether a trusted proxy has this address.
    pub fn trusts_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(address))
    }
}

impl Network {
    /// Whether `address`, which is no IPv4 address in IPv6's clothes, is one of its addresses.
    fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && (bits(address) ^ bits(self.address)).checked_shr(self.host_bits()).unwrap_or(0) == 0
    }

    /// How many bits its addresses differ in.
    fn host_bits(self) -> u32 {
        width(self.address).saturating_sub(u32::from(self.prefix_bits))
    }

    /// Reads `192.0.2.1`, `2001:db8::1`, `10.0.0.0/8` or `fd00::/8`.
    fn parse(word: &str) -> Result<Self, String> {
        let (address, prefix) = word.split_once('/').map_or((word, None), |(start, end)| (start, Some(end)));
        let address: IpAddr =
            address.parse().map_err(|_| format!("{word:?} is neither an address nor a network"))?;
        if address.to_canonical() != address {
            return Err(format!("{word:?}: write the IPv4 address {}", address.to_canonical()));
        }
        let width = width(address);
        let Some(prefix) = prefix else {
            return Ok(Self { address, prefix_bits: u8::try_from(width).unwrap_or(u8::MAX) });
        };
        let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_bits = prefix.parse().ok().filter(|bits| is_number && u32::from(*bits) <= width);
        let prefix_bits = prefix_bits.ok_or(format!("{word:?}: a prefix has 0 to {width} bits"))?;
        let network = Self { address, prefix_bits };
        let host = (1_u128.checked_shl(network.host_bits())).map_or(u128::MAX, |next| next - 1);
        if bits(address) & host != 0 {
            return Err(format!("{word:?} has bits beyond its prefix"));
        }
        Ok(network)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { u32::BITS } else { u128::BITS }
}

/// Default and bounds of the options read here.
pub(super) fn describe(flag: &str) -> Option<Description> {
    let (default, bounds) = match flag {
        TRUSTED => ("none", FORMS),
        PROTOCOL => ("off", "off, v1, v2, or on for either"),
        _ => return None,
    };
    Some(Description { default: default.to_owned(), bounds: bounds.to_owned() })
}

pub(super) fn read(raw: &RawOptions) -> Result<Proxies, ConfigError> {
    let mut proxies = Proxies { protocol: protocol(raw.proxy_protocol.as_deref())?, ..Proxies::default() };
    let refused = |fault: String| {
        ConfigError::new(
            TRUSTED,
            fault,
            format!("give {FORMS}, for example {TRUSTED} 127.0.0.1,10.0.0.0/8,unix"),
        )
    };
    let words = raw.trusted_proxies.iter().flat_map(|list| list.split(',')).map(str::trim);
    for word in words.filter(|word| !word.is_empty()) {
        if word == UNIX {
            proxies.unix = true;
        } else {
            proxies.networks.push(Network::parse(word).map_err(refused)?);
        }
    }
    if proxies.networks.len() > TRUSTED_PROXIES_MAX {
        let fault =
            format!("{} networks are too many, at most {TRUSTED_PROXIES_MAX}", proxies.networks.len());
        return Err(refused(fault));
    }
    if proxies.protocol != ProxyProtocol::Off && proxies.is_unused() {
        let fault = "requires --trusted-proxies";
        let hint = format!("name the proxies, for example {TRUSTED} 127.0.0.1");
        return Err(ConfigError::new(PROTOCOL, fault, hint));
    }
    Ok(proxies)
}

fn protocol(word: Option<&str>) -> Result<ProxyProtocol, ConfigError> {
    match word {
        None | Some("off") => Ok(ProxyProtocol::Off),
        Some("v1") => Ok(ProxyProtocol::V1),
        Some("v2") => Ok(ProxyProtocol::V2),
        Some("on") => Ok(ProxyProtocol::On),
        Some(word) => {
            let fault = format!("{word:?} is neither off, v1, v2 nor on");
            let hint = format!("give off, v1, v2 or on, for example {PROTOCOL} v2");
            Err(ConfigError::new(PROTOCOL, fault, hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(words: &[&str], protocol: Option<&str>) -> Result<Proxies, ConfigError> {
        let trusted_proxies = words.iter().map(|word| (*word).to_owned()).collect();
        let proxy_protocol = protocol.map(str::to_owned);
        read(&RawOptions { trusted_proxies, proxy_protocol, ..RawOptions::default() })
    }

    fn trusts(words: &[&str], address: &str) -> bool {
        proxies(words, None).unwrap().trusts(Some(SocketAddr::new(address.parse().unwrap(), 1)))
    }

    #[test]
    fn nobody_is_trusted_who_is_not_named() {
        for words in [&[][..], &[""], &[" , "]] {
            assert!(proxies(words, None).unwrap().is_unused());
        }
        assert!(!trusts(&[], "127.0.0.1"));
        assert!(!proxies(&["0.0.0.0/0,::/0"], None).unwrap().trusts(None));
        assert!(proxies(&["unix"], None).unwrap().trusts(None));
        assert!(!trusts(&["unix"], "127.0.0.1"));
    }

    #[test]
    fn networks_contain_what_begins_alike() {
        for (words, inside, outside) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("172.16.0.0/12", "172.31.255.255", "172.32.0.0"),
            ("192.0.2.128/25", "192.0.2.255", "192.0.2.127"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::1", "127.0.0.1"),
            ("fd00::/8", "fdff:ffff::1", "fe00::1"),
            ("2001:db8::1/128", "2001:db8::1", "2001:db8::2"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
            ("10.0.0.0/8", "10.0.0.1", "::a00:1"),
        ] {
            assert!(trusts(&[words], inside), "{words} {inside}");
            assert!(!trusts(&[words], outside), "{words} {outside}");
        }
        assert!(trusts(&["192.0.2.1, ::1", "unix,10.0.0.0/8"], "10.0.0.1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (word, fault) in [
            ("localhost", "is neither an address nor a network"),
            ("*", "is neither an address nor a network"),
            ("10.0.0", "is neither an address nor a network"),
            ("10.0.0.0/8/8", "a prefix has 0 to 32 bits"),
            ("10.0.0.0/", "a prefix has 0 to 32 bits"),
            ("10.0.0.0/33", "a prefix has 0 to 32 bits"),
            ("10.0.0.0/+8", "a prefix has 0 to 32 bits"),
            ("::/129", "a prefix has 0 to 128 bits"),
            ("10.0.0.1/8", "has bits beyond its prefix"),
            ("10.0.0.1/0", "has bits beyond its prefix"),
            ("fd00::1/8", "has bits beyond its prefix"),
            ("::ffff:10.0.0.1", "write the IPv4 address 10.0.0.1"),
            ("127.0.0.1:80", "is neither an address nor a network"),
            ("[::1]", "is neither an address nor a network"),
            ("UNIX", "is neither an address nor a network"),
        ] {
            let refused = proxies(&[word], None).unwrap_err();
            assert_eq!(refused.flag, "--trusted-proxies");
            assert!(refused.fault.contains(fault), "{word}: {}", refused.fault);
            assert_eq!(refused.to_string().lines().count(), 2);
        }
        let most = vec!["10.0.0.1"; TRUSTED_PROXIES_MAX];
        assert!(proxies(&most, None).is_ok());
        let refused = proxies(&[most.as_slice(), &["::1"]].concat(), None).unwrap_err();
        assert_eq!(refused.fault, "1025 networks are too many, at most 1024");
    }

    #[test]
    fn the_protocol_needs_somebody_to_speak_it() {
        for (word, protocol) in [
            ("off", ProxyProtocol::Off),
            ("v1", ProxyProtocol::V1),
            ("v2", ProxyProtocol::V2),
            ("on", ProxyProtocol::On),
        ] {
            assert_eq!(proxies(&["::1"], Some(word)).unwrap().protocol, protocol);
            assert_eq!(proxies(&[], Some(word)).is_err(), protocol != ProxyProtocol::Off, "{word}");
        }
        for word in ["", "V1", "1", "yes"] {
            assert_eq!(proxies(&["::1"], Some(word)).unwrap_err().flag, "--proxy-protocol");
        }
    }
}
