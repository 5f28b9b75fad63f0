#!/bin/sh
# The compiler as run.py has cargo call it: only what reads what strangers send is instrumented. In the other crates
# the fuzzer would count the edges of a help text's line breaks, at several times the price.
case ${CARGO_PKG_NAME-} in
    spawning | spawning-fuzz | httparse | serde_json | toml | toml_parser) exec "$@" ;;
esac
for argument; do
    shift
    case $argument in
        -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-*) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec "$@"
