//! How long the items of a protobuf list take: `cargo run --release -p pintle-api --example encode [ITEMS]`.
//! Under `valgrind --tool=callgrind` the instructions are counted instead, which other work on the machine does not
//! change.

use api::protobuf::{Encoder, Error};

const CONFIG_MAP: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"resourceVersion":"123456","creationTimestamp":"2026-11-29T02:28:00Z","managedFields":[{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:key":{},"f:other":{}}},"manager":"bench","operation":"Update","time":"2026-11-29T02:28:00Z"}],"name":"config-0012345","namespace":"default","uid":"5f9ad1a8-6b5a-4f6c-9a0c-0d5d2f6e7a10"},"data":{"key":"some value of a length that is usual for settings\nof two lines","other":"short"}}"#;

fn main() -> Result<(), Error> {
    let items: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let (mut encoder, mut out, mut bytes) = (Encoder::default(), Vec::new(), 0);
    for _ in 0..items {
        out.clear();
        encoder.message("io.k8s.api.core.v1.ConfigMap", CONFIG_MAP.as_bytes(), &mut out)?;
        bytes += out.len();
    }
    println!("{items} items, {bytes} bytes");
    Ok(())
}
