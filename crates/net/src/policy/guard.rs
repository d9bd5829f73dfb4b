//! Frames with a VLAN tag between pods of one node. The bridge does not show them to the rules, and yet a pod takes in
//! one that is tagged with VLAN 0 as if it had no tag: whoever may open a raw socket could reach an isolated neighbour
//! that way. Pods have no VLANs, so such frames are dropped, by a table of the `bridge` family.

use crate::nft::kernel;
use crate::{Result, names};

/// Puts the table in place. May be called again at any time.
///
/// # Errors
/// When the kernel has no nftables for bridges.
pub async fn ensure(instance: &str, bridge: &str) -> Result<()> {
    let exact = kernel::apply(&script(instance, &format!("meta ibrname \"{bridge}\""))).await;
    match exact {
        Ok(()) => Ok(()),
        // A kernel that cannot tell bridges from each other: the CNI plugin's names for pods' interfaces say as much.
        Err(_) => kernel::apply(&script(instance, "iifname \"veth*\"")).await,
    }
}

fn script(instance: &str, from: &str) -> String {
    let table = names::guard_table(instance);
    format!(
        "add table bridge {table}\n\
         delete table bridge {table}\n\
         add table bridge {table}\n\
         add chain bridge {table} forward {{ type filter hook forward priority -300; policy accept; }}\n\
         add rule bridge {table} forward {from} ether type {{ 8021q, 8021ad }} drop\n"
    )
}

/// Removes the table. Fine if there is none.
pub async fn cleanup(instance: &str) -> Result<()> {
    let table = names::guard_table(instance);
    match kernel::apply(&format!("add table bridge {table}\ndelete table bridge {table}\n")).await {
        // Then there never was one.
        Err(error) if error.to_string().contains("not supported") => Ok(()),
        result => result,
    }
}
