//! Variables by which platforms tell any server what to do: `PORT`, `HOST`, `WEB_CONCURRENCY`, `SCRIPT_NAME`. Of all
//! sources the weakest.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;

use super::sources::{Given, Layer, Source};

const PORT: &str = "PORT";
const HOST: &str = "HOST";
/// Each variable that is an option under another name.
const SIMPLE: [(&str, &str); 2] = [("WEB_CONCURRENCY", "--processes"), ("SCRIPT_NAME", "--script-name")];

/// What the platform says, the strongest first: a layer for each variable.
pub fn layers(variables: &[(OsString, OsString)]) -> Vec<Layer> {
    let value = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name)?.1.to_str()?;
        (!found.is_empty()).then_some(found)
    };
    let layer = |name, options: &[(&'static str, &str)]| Layer {
        source: Source::Variable(name),
        options: options
            .iter()
            .map(|(flag, value)| (*flag, Given::Words(vec![(*value).to_owned()])))
            .collect::<BTreeMap<_, _>>(),
    };
    // Shells and compilers set a HOST of their own, which is no address: tcsh the machine's name, conda its kind.
    let host = value(HOST).filter(|host| host.parse::<IpAddr>().is_ok() || *host == "localhost");
    let host = host.map(|host| layer(HOST, &[("--host", host)]));
    // Who is told a port is to be reached at it from other machines.
    let port = value(PORT).map(|port| layer(PORT, &[("--port", port), ("--host", "0.0.0.0")]));
    let simple = SIMPLE.iter().filter_map(|(name, flag)| Some(layer(name, &[(*flag, value(name)?)])));
    host.into_iter().chain(port).chain(simple).collect()
}

/// The options of which any, given by a stronger source, makes the variable `name` not count at all: a port that is
/// chosen on purpose is not to be opened to other machines because there is a PORT, and `--bind` names all addresses.
pub fn yields_to(name: &str) -> &'static [&'static str] {
    match name {
        PORT => &["--port", "--bind"],
        HOST => &["--bind"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let variables: Vec<(OsString, OsString)> =
            variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let all = layers(&variables).into_iter().flat_map(|layer| layer.options);
        all.filter_map(|(flag, given)| match given {
            Given::Words(words) => Some((flag, words.concat())),
            Given::Switch(_) => None,
        })
        .collect()
    }

    #[test]
    fn a_port_is_open_to_every_machine_unless_a_host_is_given() {
        assert_eq!(told(&[("PORT", "80")]), [("--host", "0.0.0.0".into()), ("--port", "80".into())]);
        let first = told(&[("PORT", "80"), ("HOST", "::1")]).into_iter().next();
        assert_eq!(first, Some(("--host", "::1".into())), "the stronger comes first");
    }

    #[test]
    fn a_host_that_is_no_address_and_an_empty_variable_do_not_count() {
        assert_eq!(told(&[("HOST", "x86_64-conda-linux-gnu"), ("PORT", ""), ("WEB_CONCURRENCY", "")]), []);
    }

    #[test]
    fn numbers_and_prefixes_are_taken_as_they_are() {
        let expected = [("--processes", "3".to_owned()), ("--script-name", "/a".to_owned())];
        assert_eq!(told(&[("SCRIPT_NAME", "/a"), ("WEB_CONCURRENCY", "3")]), expected);
    }
}
