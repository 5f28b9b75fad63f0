//! What several fuzz targets need: second opinions that share no code with the server, and ways to cut bytes up.

pub mod chunks;
#[path = "../../http_properties/driver.rs"]
#[allow(clippy::new_without_default)]
pub mod driver;
pub mod head;
pub mod usage;

/// Parts fields from each other in inputs that are lists of bytes; no text has this byte.
const SEPARATOR: u8 = 0xff;

/// The parts of an input that is a list.
pub fn parts(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|&byte| byte == SEPARATOR)
}

/// The lines of an input that is a list of words, whatever they hold.
pub fn lines(input: &[u8]) -> Vec<String> {
    parts(input).flat_map(|part| part.split(|&byte| byte == b'\n')).map(lossy).collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `bytes` in pieces whose lengths follow from `seed`: many short ones, some long ones.
pub fn pieces(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let mut state = u32::from(seed) | 0x100;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        // A linear congruential generator (Numerical Recipes); its high bits are the better ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 1 + (state >> 24) as usize % if state & 1 << 20 == 0 { 3 } else { 64 };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}
