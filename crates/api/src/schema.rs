//! The schema of every built-in type: fields, types, and how lists and maps merge.
