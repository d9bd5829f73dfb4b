//! Names: DNS-1123 labels and subdomains, label keys and values, qualified names; upstream's `apimachinery/pkg/util/validation`.

/// Why `name` is no DNS-1123 subdomain; empty if it is one. `prefix`: a trailing `-` is allowed (`generateName`).
pub fn dns1123_subdomain(_name: &str, _prefix: bool) -> Vec<String> {
    Vec::new()
}
