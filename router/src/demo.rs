//! The demo around a router: feeders that write sample records, and a console that shows what becomes of them.

mod console;
mod feeders;

pub(crate) use console::Console;
pub(crate) use feeders::Feeders;
