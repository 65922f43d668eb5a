//! Whole runs of the router, each written once for every log it must hold on.

mod endless_loop;
mod killed;
mod outage;
mod rate_limit;

pub use endless_loop::endless_loop;
pub use killed::killed_routers_lose_nothing;
pub use outage::outage;
pub use rate_limit::rate_limit;
