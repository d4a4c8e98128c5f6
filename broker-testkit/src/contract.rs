//! The laws of `broker_core::ports` as tests, for any implementation.
//!
//! Each suite is a set of async functions, and a macro that makes a `#[tokio::test]` of each:
//!
//! ```ignore
//! mod memory {
//!     broker_testkit::bus_contract!(super::memory_gateways());
//! }
//! ```

pub mod bus;
pub mod gateway;
pub mod log;
pub mod presence;
pub mod queue;
pub mod roster;
pub mod sessions;

pub use gateway::{Answer, Arrivals, Gateway, Questions};

use std::time::Duration;

/// How long what must happen may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// One `#[tokio::test]` for each law named: the fixture is made anew for each.
#[doc(hidden)]
#[macro_export]
macro_rules! __laws {
    ($suite:path, $make:expr; $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                use $suite as suite;
                let fixture = $make.await;
                suite::$law(&fixture).await;
            }
        )*
    };
}
