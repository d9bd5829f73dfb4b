//! Names: DNS-1123 labels and subdomains, label keys and values, qualified names; upstream's `apimachinery/pkg/util/validation`.
