//! Schemas of custom resources, and objects under them.

use api::apiextensions::v1::JSONSchemaProps;
use api::codec;
use api::field::Path;
use structural::Schema;

pub(crate) fn run(data: &[u8]) {
    let (schema, object) = crate::halves(data);
    let Ok(parsed) = codec::parse_json(schema) else { return };
    let Ok(props) = serde_json::from_value::<JSONSchemaProps>(parsed.value) else { return };
    let sound = structural::definition::structural(&props, &Path::new("schema")).is_empty();
    let Ok(schema) = Schema::compile(&props) else { return };
    let (_, _, _) = (schema.openapi_v3(), schema.openapi_v2(), schema.shape());
    let Ok(parsed) = codec::parse_json(object) else { return };
    let mut object = parsed.value;
    if !sound || !object.is_object() {
        return;
    }
    let _ = schema.prune(&mut object);
    schema.default(&mut object);
    let defaulted = object.clone();
    schema.default(&mut object);
    assert_eq!(defaulted, object, "defaults are filled in once and for all");
    let pruned = schema.prune(&mut object);
    assert!(pruned.is_empty(), "defaults are of the schema: {pruned:?}");
    let _ = schema.validate(&object);
}
