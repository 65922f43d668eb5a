//! Error codes of librdkafka (negative) and of brokers (positive).

use std::ffi::{c_char, c_int};
use std::fmt;

use rdkafka_sys::rd_kafka_resp_err_t as Known;

use super::text;

/// An error code, known to this librdkafka or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Code(pub(crate) c_int);

impl Code {
    /// A code by its name in the bindings.
    pub(crate) const fn of(known: Known) -> Self {
        Self(known as c_int)
    }

    /// Whether this is an error.
    pub(crate) const fn is_error(self) -> bool {
        self.0 != 0
    }

    /// `Ok`, or the code as the error.
    pub(crate) const fn ok(self) -> Result<(), Self> {
        if self.is_error() { Err(self) } else { Ok(()) }
    }

    /// librdkafka's sentence for the code.
    pub(crate) fn describe(self) -> String {
        // SAFETY: takes any integer, and answers with a static string, or one of a ring of buffers for unknown codes.
        unsafe { text(rd_kafka_err2str(self.0)) }
    }
}

/// librdkafka's name for the code, such as `_TRANSPORT` or `TOPIC_AUTHORIZATION_FAILED`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: as in `describe`.
        f.write_str(&unsafe { text(rd_kafka_err2name(self.0)) })
    }
}

/// Reads the code in a field of a C struct.
///
/// # Safety
/// `field` points to a readable error code.
pub(super) unsafe fn read(field: *const Known) -> Code {
    // SAFETY: the enum is `repr(i32)`; read as an integer, any value is fine.
    Code(unsafe { field.cast::<c_int>().read() })
}

// The same functions as in the bindings, with the code as an integer.
unsafe extern "C" {
    fn rd_kafka_err2str(code: c_int) -> *const c_char;
    fn rd_kafka_err2name(code: c_int) -> *const c_char;
}
