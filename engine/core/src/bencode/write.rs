//! Writing bencoded data, as far as the `bendy` crate leaves something to do.

use bendy::encoding::{Encoder, Error, SortedDictEncoder, ToBencode};

/// A bencoded dictionary.
///
/// # Panics
/// If its keys do not come in their order.
pub fn write_dict(write: impl FnOnce(SortedDictEncoder<'_>) -> Result<(), Error>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let written = encoder.emit_dict(write).and_then(|()| encoder.get_output());
    written.expect("sorted keys and plain values always encode")
}

/// A key and its value, if there is one.
pub(crate) fn emit_some<T: ToBencode>(
    dict: &mut SortedDictEncoder<'_>,
    key: &[u8],
    value: Option<T>,
) -> Result<(), Error> {
    value.map_or(Ok(()), |value| dict.emit_pair(key, value))
}
