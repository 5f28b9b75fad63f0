//! What every refusal of options must look like.

use spawning::cli::{EXIT_USAGE, Exit};

/// Panics unless `exit` is an answer, or a fault and a hint on a line each that no terminal obeys.
pub fn check(exit: &Exit) {
    if exit.status == 0 {
        assert!(exit.to_stdout);
        return;
    }
    assert_eq!((exit.status, exit.to_stdout), (EXIT_USAGE, false));
    assert_eq!(exit.output.lines().count(), 2, "{}", exit.output);
    assert!(exit.output.ends_with('\n') && exit.output.contains("\nhint: "), "{}", exit.output);
    let is_control = |character: char| character != '\n' && character.is_control();
    assert!(!exit.output.contains(is_control), "{:?}", exit.output);
}
