//! From what is stored to the version that is asked for, and back. What lies in the store may be of any version that
//! was ever the stored one.

use std::sync::Arc;

use api::apiextensions::v1::CustomResourceDefinition;
use api::{Custom, Kind, Object, Status};
use bytes::Bytes;

use crate::Server;
use crate::cache::{Entry, Out};
use crate::catalog::Resource;

/// How a definition's versions become one another.
pub(crate) enum Conversion {
    /// Only `apiVersion` changes.
    None,
    Webhook(Box<super::webhook::Webhook>),
}

impl Conversion {
    pub fn of(crd: &CustomResourceDefinition) -> Self {
        super::webhook::Webhook::of(crd).map_or(Self::None, |webhook| Self::Webhook(Box::new(webhook)))
    }

    /// Whether a field of one version may be another one in the next.
    pub fn moves_fields(&self) -> bool {
        matches!(self, Self::Webhook(_))
    }

    /// The objects in another version, in their order. One call for all of them.
    ///
    /// # Errors
    /// 500 in upstream's words if the webhook fails.
    pub async fn convert(
        &self,
        server: &Server,
        objects: Vec<Custom>,
        to: &'static Kind,
    ) -> Result<Vec<Custom>, Status> {
        if objects.iter().all(|object| object.kind() == to) {
            return Ok(objects);
        }
        match self {
            Self::None => Ok(objects.into_iter().map(|object| object.of(to)).collect()),
            Self::Webhook(webhook) => webhook.convert(server, objects, to).await,
        }
    }
}

fn custom_of(object: Box<dyn Object>) -> Result<Custom, Status> {
    let custom = object.into_any_box().downcast::<Custom>();
    custom.map(|custom| *custom).map_err(|_| Status::internal("a custom resource is kept as another kind"))
}

impl Resource {
    /// Entries as this version shows them. Those that are of it already are passed on.
    ///
    /// # Errors
    /// As [`Conversion::convert`].
    pub(crate) async fn served(
        &self,
        server: &Server,
        mut entries: Vec<Arc<Entry>>,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        let Some(version) = &self.custom else { return Ok(entries) };
        let foreign: Vec<usize> =
            entries.iter().enumerate().filter(|(_, e)| e.kind() != version.kind).map(|(at, _)| at).collect();
        if foreign.is_empty() {
            return Ok(entries);
        }
        let objects = foreign.iter().map(|at| custom_of(entries[*at].object_to_change()?));
        let objects = objects.collect::<Result<Vec<_>, Status>>()?;
        let converted = version.conversion.convert(server, objects, version.kind).await?;
        for (at, mut object) in foreign.into_iter().zip(converted) {
            let old = &entries[at];
            object.metadata.resource_version = None;
            let json = Bytes::from(object.encode().into_boxed_slice());
            let (key, revision) = (old.key.clone(), old.revision);
            let entry = Entry::from_object(&**version, key, revision, json, Box::new(object), false)?;
            entries[at] = Arc::new(entry);
        }
        Ok(entries)
    }

    /// As [`Resource::served`], of one.
    ///
    /// # Errors
    /// As [`Conversion::convert`].
    pub(crate) async fn served_one(&self, server: &Server, entry: Arc<Entry>) -> Result<Arc<Entry>, Status> {
        if self.custom.as_ref().is_none_or(|version| entry.kind() == version.kind) {
            return Ok(entry);
        }
        let mut all = self.served(server, vec![entry]).await?;
        all.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// As [`Resource::served`], of a watch's events.
    ///
    /// # Errors
    /// As [`Conversion::convert`].
    pub(crate) async fn served_events(&self, server: &Server, events: Vec<Out>) -> Result<Vec<Out>, Status> {
        if self.custom.as_ref().is_none_or(|version| events.iter().all(|out| out.parts().1.kind() == version.kind)) {
            return Ok(events);
        }
        let entries = self.served(server, events.iter().map(|out| out.parts().1.clone()).collect()).await?;
        let shown = events.into_iter().zip(entries).map(|(out, entry)| match out {
            Out::Added(_) => Out::Added(entry),
            Out::Modified(_) => Out::Modified(entry),
            Out::Deleted(_) => Out::Deleted(entry),
        });
        Ok(shown.collect())
    }

    /// An object in the form in which it is stored.
    ///
    /// # Errors
    /// As [`Conversion::convert`].
    pub(crate) async fn stored_form(
        &self,
        server: &Server,
        object: Box<dyn Object>,
    ) -> Result<Box<dyn Object>, Status> {
        match (&self.custom, self.convert) {
            (None, None) => Ok(object),
            (None, Some(convert)) => Ok((convert.to_stored)(&*object)),
            (Some(version), _) => {
                let all = version.conversion.convert(server, vec![custom_of(object)?], version.storage).await?;
                let one = all.into_iter().next().ok_or_else(|| Status::internal("a conversion lost its object"))?;
                Ok(Box::new(one))
            }
        }
    }
}
