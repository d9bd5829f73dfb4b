//! The pods' bridge: made, used, and gone again.

use net::{Feed, cni, links, proxy};
use serde_json::json;

use crate::lab::{self, DNS_IP, NODE_IP, OUTSIDE_IP, greet, pod_object, who, within};

fn shown(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = std::process::Command::new(words.next().unwrap()).args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn pods_reach_each_other_and_the_outside_behind_the_node() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let (a, b) = (lab.pod().await, lab.pod().await);
        lab.serve(&a.netns, "a", 8080);
        lab.serve(&lab.outside, "outside", 8080);
        let feed = Feed::new();
        feed.replace_services([]);
        feed.replace_slices([]);
        lab.proxy(&feed, &tasks).await;
        assert_eq!(greet(&b.netns, format!("{}:8080", a.ip)).await.unwrap(), format!("a {}", b.ip));
        assert_eq!(who(&lab.node, format!("{}:8080", a.ip)).await, "a");
        assert_eq!(greet(&a.netns, format!("{OUTSIDE_IP}:8080")).await.unwrap(), format!("outside {NODE_IP}"));
    });
}

#[test]
fn host_ports_lead_to_their_pod() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let (a, client) = (lab.pod().await, lab.pod().await);
        lab.serve(&a.netns, "a", 8080);
        let feed = Feed::new();
        feed.replace_services([]);
        feed.replace_slices([]);
        feed.replace_pods([pod_object(
            &a,
            json!([{"containerPort": 8080, "hostPort": 9090},
                                                 {"containerPort": 8080, "hostPort": 9091, "hostIP": OUTSIDE_IP}]),
        )]);
        let mut handle = lab.proxy(&feed, &tasks).await;
        let target = format!("{NODE_IP}:9090");
        assert_eq!(greet(&lab.outside, &target).await.unwrap(), format!("a {OUTSIDE_IP}"));
        assert_eq!(who(&client.netns, &target).await, "a");
        assert_eq!(who(&a.netns, &target).await, "a");
        assert_eq!(who(&lab.node, &target).await, "a");
        assert_eq!(who(&lab.node, "127.0.0.1:9090").await, "a");
        assert!(greet(&lab.outside, format!("{NODE_IP}:9091")).await.is_err());
        feed.delete_pod("default", &a.name);
        within(handle.caught_up(&feed)).await;
        assert!(greet(&lab.outside, &target).await.is_err());
    });
}

#[test]
fn a_pod_that_goes_gives_its_address_back() {
    lab::run(|lab| async move {
        let a = lab.pod().await;
        let leases = lab.network.lease_dir.join("pintle");
        assert!(leases.join(a.ip.to_string()).exists());
        let conflist = cni::conflist(&lab.network);
        for _ in 0..2 {
            cni::plugins::delete(&conflist, &lab.network.bin_dirs, &a.attachment).await.unwrap();
        }
        assert!(!leases.join(a.ip.to_string()).exists());
        assert!(shown("ip -o link show master pintle0").is_empty());
    });
}

#[test]
fn setting_up_again_changes_nothing_and_cleaning_up_leaves_nothing() {
    lab::run(|lab| async move {
        let tasks = base::TaskGroup::new();
        let before = (shown("ip -o addr show"), shown("ip route show"));
        let (dns, range) = ([DNS_IP.parse().unwrap()], ["10.43.0.0/16".parse().unwrap()]);
        cni::setup(&lab.network).await.unwrap();
        links::ensure_service_link("pintle", &dns, &range, &[NODE_IP.parse().unwrap()]).await.unwrap();
        assert_eq!((shown("ip -o addr show"), shown("ip route show")), before);
        assert!(before.1.contains("unreachable 10.42.0.0/16"), "{}", before.1);

        // A second instance beside the first.
        let mut second = lab.network.clone();
        second.instance = "second".into();
        second.pod_cidrs = vec!["10.52.0.0/24".parse().unwrap()];
        second.cluster_cidrs = vec!["10.52.0.0/16".parse().unwrap()];
        cni::setup(&second).await.unwrap();
        assert!(shown("ip -o addr show dev second0").contains("10.52.0.1/24"));
        cni::cleanup("second", &second.conf_dir).await.unwrap();
        assert_eq!((shown("ip -o addr show"), shown("ip route show")), before);

        lab.pod().await;
        let feed = Feed::new();
        feed.replace_services([]);
        feed.replace_slices([]);
        lab.proxy(&feed, &tasks).await;
        tasks.shutdown(lab::LIMIT).await;
        for _ in 0..2 {
            proxy::cleanup("pintle").await.unwrap();
            cni::cleanup("pintle", &lab.network.conf_dir).await.unwrap();
            net::dns::cleanup("pintle").await.unwrap();
        }
        assert!(shown("nft list tables").is_empty());
        let left = shown("ip -o link show");
        assert_eq!(left.lines().count(), 2, "lo and eth0 only: {left}");
        assert!(!shown("ip route show").contains("10.4"));
        assert_eq!(std::fs::read_dir(&lab.network.conf_dir).unwrap().count(), 0);
    });
}
