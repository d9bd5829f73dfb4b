//! The store's backends against the conformance suite, and what only the one on the disk can promise.

#![allow(clippy::unwrap_used)] // all of it is tests

mod embedded;

use store::Store;

macro_rules! memory {
    ($($name:ident)*) => {
        mod memory {
            $(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    store::conformance::$name(crate::Store::memory()).await;
                }
            )*
        }
        mod memory_on_threads {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    store::conformance::$name(crate::Store::memory()).await;
                }
            )*
        }
    };
}
store::for_each_conformance_test!(memory);

macro_rules! on_disk {
    ($($name:ident)*) => {
        mod on_disk {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let disk = crate::embedded::Opened::new().await;
                    store::conformance::$name(disk.store.clone()).await;
                    disk.close().await;
                }
            )*
        }
    };
}
store::for_each_conformance_test!(on_disk);
