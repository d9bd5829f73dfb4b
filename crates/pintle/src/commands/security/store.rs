//! 2: the store.

use super::facts::Facts;
use super::{Check, Decided, Group, not_applicable};

pub static GROUP: Group = Group {
    id: "2",
    title: "Store",
    checks: &[
        Check { id: "2.1", title: "The store serves over TLS", decide: within },
        Check { id: "2.2", title: "The store asks for client certificates", decide: within },
        Check { id: "2.3", title: "The store does not sign its own certificate", decide: within },
        Check { id: "2.4", title: "The store's members speak TLS", decide: within },
        Check { id: "2.5", title: "The store's members ask for certificates", decide: within },
        Check { id: "2.6", title: "The store's members do not sign their own certificates", decide: within },
        Check { id: "2.7", title: "The store has a CA of its own", decide: within },
    ],
};

fn within(facts: &Facts) -> Decided {
    match facts.flag("store")? {
        "embedded" => not_applicable("the store is within the server: it has no port and no members"),
        other => Err(format!("nothing is known of the store {other}")),
    }
}
