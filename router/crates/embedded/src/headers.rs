//! Headers as one blob.
//!
//! ```text
//! blob   = 1 header*                      a version byte, then the headers in order
//! header = varint(length of name) name    any bytes, empty too
//!          varint(0)                      a null value
//!        | varint(length + 1) value       any bytes, empty too
//! ```
//!
//! A varint is LEB128: seven bits a byte, the low ones first. A record without headers has no blob.

use pointsman_core::record::{Header, Headers};

const VERSION: u8 = 1;

/// The blob is not one of ours: the file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Appends the blob of `headers` and then `stamps` to `blob`; nothing where there are none.
pub(crate) fn encode(headers: Headers<'_>, stamps: Headers<'_>, blob: &mut Vec<u8>) {
    if headers.is_empty() && stamps.is_empty() {
        return;
    }
    blob.push(VERSION);
    for header in headers.iter().chain(stamps.iter()) {
        put_varint(header.name.len() as u64, blob);
        blob.extend_from_slice(header.name);
        match header.value {
            None => put_varint(0, blob),
            Some(value) => {
                put_varint(value.len() as u64 + 1, blob);
                blob.extend_from_slice(value);
            }
        }
    }
}

/// Appends the headers in `blob` to `headers`.
///
/// # Errors
/// [`Malformed`]; some may have been appended.
pub(crate) fn decode<'a>(blob: &'a [u8], headers: &mut Vec<Header<'a>>) -> Result<(), Malformed> {
    let Some((&VERSION, mut rest)) = blob.split_first() else { return Err(Malformed) };
    while !rest.is_empty() {
        let length = take_varint(&mut rest)?;
        let name = take(length, &mut rest)?;
        let value = match take_varint(&mut rest)? {
            0 => None,
            length => Some(take(length - 1, &mut rest)?),
        };
        headers.push(Header { name, value });
    }
    Ok(())
}

fn put_varint(mut number: u64, blob: &mut Vec<u8>) {
    while number >= 0x80 {
        blob.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    blob.push(number as u8);
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(Malformed)?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn take<'a>(length: u64, rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (bytes, after) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = after;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use proptest::collection::vec;
    use proptest::prelude::*;

    use pointsman_core::record::OwnedHeader;

    use super::*;

    fn header() -> impl Strategy<Value = OwnedHeader> {
        (vec(any::<u8>(), 0..200), proptest::option::of(vec(any::<u8>(), 0..200)))
            .prop_map(|(name, value)| OwnedHeader { name: name.into(), value: value.map(Into::into) })
    }

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(headers in vec(header(), 0..5), stamps in vec(header(), 0..3)) {
            let mut blob = Vec::new();
            encode(Headers::Owned(&headers), Headers::Owned(&stamps), &mut blob);
            prop_assert_eq!(blob.is_empty(), headers.is_empty() && stamps.is_empty());
            if !blob.is_empty() {
                let mut decoded = Vec::new();
                decode(&blob, &mut decoded).unwrap();
                let all: Vec<_> = headers.iter().chain(&stamps).map(OwnedHeader::as_header).collect();
                prop_assert_eq!(decoded, all);
            }
        }

        #[test]
        fn no_blob_makes_it_panic(blob in vec(any::<u8>(), 0..64), versioned in any::<bool>()) {
            let mut blob = blob;
            if versioned && !blob.is_empty() {
                blob[0] = VERSION;
            }
            let mut decoded = Vec::new();
            if decode(&blob, &mut decoded).is_ok() {
                prop_assert!(decoded.iter().map(|header| header.name.len()).sum::<usize>() < blob.len());
            }
        }
    }

    #[test]
    fn a_blob_cut_short_is_malformed() {
        let mut blob = Vec::new();
        encode(Headers::Borrowed(&[Header { name: b"name", value: Some(b"value") }]), Headers::NONE, &mut blob);
        for length in (0..blob.len()).filter(|length| *length != 1) {
            assert_eq!(decode(&blob[..length], &mut Vec::new()), Err(Malformed), "{length}");
        }
    }
}
