//! Tests of `discovery`.

use super::*;
use crate::aggregation::priority::Priority;

fn get(path: &str, accept: &str) -> Option<Result<Document, Status>> {
    let headers = Headers { accept: accept.to_owned(), host: "10.0.0.1:6443".to_owned(), ..Headers::default() };
    let served = built_in(resources::ALL).into_iter().map(std::sync::Arc::new).collect();
    Documents::new(served, Vec::new(), Priorities::default()).answer(path, None, &headers)
}

fn json_of(document: Option<Result<Document, Status>>) -> Value {
    serde_json::from_slice(&document.expect("answered").expect("acceptable").bytes).expect("JSON")
}

#[test]
fn the_old_form() {
    let core = json_of(get("/api", ""));
    assert_eq!(core["versions"], json!(["v1"]));
    assert_eq!(core["serverAddressByClientCIDRs"][0]["serverAddress"], "10.0.0.1:6443");
    let groups = json_of(get("/apis/", "application/json"));
    assert_eq!(groups["groups"][1]["name"], "apps");
    assert_eq!(groups["groups"][1]["preferredVersion"], json!({"groupVersion": "apps/v1", "version": "v1"}));
    let group = json_of(get("/apis/apps", ""));
    assert_eq!((&group["kind"], &group["name"]), (&json!("APIGroup"), &json!("apps")));
    let list = json_of(get("/api/v1", ""));
    let pods = list["resources"].as_array().expect("a list").iter().find(|one| one["name"] == "pods").expect("pods");
    assert_eq!(
        *pods,
        json!({
            "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod",
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            "shortNames": ["po"], "categories": ["all"], "storageVersionHash": "xPOwRZ+Yhw8=",
        })
    );
    let list = json_of(get("/apis/apps/v1", ""));
    let scale = list["resources"].as_array().expect("a list").iter().find(|one| one["name"] == "deployments/scale");
    assert_eq!(
        *scale.expect("served"),
        json!({
            "name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling", "version": "v1",
            "kind": "Scale", "verbs": ["get", "patch", "update"],
        })
    );
    assert!(get("/api/v1/pods", "").is_none() && get("/apis/nothing", "").is_none());
}

#[test]
fn the_aggregated_form() {
    let accept =
        format!("{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,{JSON}");
    let document = get("/apis", &accept).expect("answered").expect("acceptable");
    assert_eq!(document.content_type, AGGREGATED);
    assert!(document.etag.is_some_and(|etag| etag.len() == 130 && etag.starts_with('"')));
    let list: Value = serde_json::from_slice(&document.bytes).expect("JSON");
    assert_eq!(list["items"][1]["metadata"]["name"], "apps");
    let resources = list["items"][1]["versions"][0]["resources"].as_array().expect("a list");
    let deployments = resources.iter().find(|one| one["resource"] == "deployments").expect("served");
    assert_eq!(deployments["responseKind"], json!({"group": "apps", "version": "v1", "kind": "Deployment"}));
    assert_eq!(deployments["scope"], "Namespaced");
    assert_eq!(deployments["subresources"][0]["subresource"], "scale");
    // what is not known falls back to the old form, what is not served is refused
    assert_eq!(json_of(get("/apis", "application/json;as=Other;v=v9;g=x,application/json"))["kind"], "APIGroupList");
    let refused = get("/apis", "text/html").expect("answered").expect_err("not served");
    assert_eq!(refused.code(), 406);
    let root = json_of(get("/", ""));
    let paths = root["paths"].as_array().expect("a list");
    assert!(
        ["/api/v1", "/apis/apps", "/openapi/v3/apis/apps/v1", "/readyz"]
            .iter()
            .all(|path| paths.contains(&json!(path)))
    );
}

#[test]
fn versions_are_ranked() {
    let mut versions = ["v1beta1", "v2", "v1alpha1", "v1", "v10", "v1beta2"];
    versions.sort_by_key(|version| std::cmp::Reverse(group::version_rank(version)));
    assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1"]);
}

#[test]
fn what_others_serve_is_listed_by_priority() {
    let resources = elsewhere::of_list(
        br#"{"resources": [{"name": "things", "kind": "Thing", "namespaced": true, "verbs": ["get"]}]}"#,
        "x.example.com",
        "v1",
    );
    let one = |group: &str, version: &str, of_group, of_version, resources: Option<_>| {
        let priority = Priority { group: of_group, version: of_version };
        let (group, version, openapi) = (group.to_owned(), version.to_owned(), Default::default());
        Arc::new(Elsewhere { group, version, priority, resources, openapi })
    };
    let elsewhere = vec![
        one("x.example.com", "v2", 50, 5, None),
        one("x.example.com", "v1", 17_775, 10, Some(Arc::new(resources.unwrap()))),
    ];
    let served = built_in(resources::ALL).into_iter().map(Arc::new).collect();
    let documents = Documents::new(served, elsewhere, Priorities::default());
    let get = |path, accept: &str| {
        let headers = Headers { accept: accept.to_owned(), ..Headers::default() };
        json_of(documents.answer(path, None, &headers))
    };
    let names: Vec<Value> =
        get("/apis", JSON)["groups"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names[..4], ["apiregistration.k8s.io", "apps", "x.example.com", "events.k8s.io"]);
    assert_eq!(get("/apis/x.example.com", JSON)["preferredVersion"]["version"], "v1");
    assert!(documents.answer("/apis/x.example.com/v1", None, &Headers::default()).is_none(), "asked elsewhere");
    let aggregated = get("/apis", AGGREGATED);
    assert_eq!(
        aggregated["items"][2]["versions"],
        json!([
            {"version": "v1", "freshness": "Current", "resources": [{
                "resource": "things", "scope": "Namespaced", "singularResource": "", "verbs": ["get"],
                "responseKind": {"group": "x.example.com", "version": "v1", "kind": "Thing"},
            }]},
            {"version": "v2", "freshness": "Stale"},
        ])
    );
    let headers = Headers { accept: AGGREGATED_PROTOBUF.to_owned(), ..Headers::default() };
    let protobuf = documents.answer("/apis", None, &headers).unwrap().unwrap();
    assert!(protobuf.bytes.windows(5).any(|text| text == b"Thing") && protobuf.etag.is_some());
}
