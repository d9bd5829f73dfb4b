//! What controllers see: typed, read-only views of the shared reflectors, and the mapping from any change to the keys
//! that must be looked at again.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::lean::Pod;
use api::{Kind, Object, Target, Typed};
use client::reflector::Snapshot;
use client::{Change, Discovered, Error, Reflectors, WorkQueue};

use super::{Context, Facts};

/// A kind that is read beside the primary, and how its changes map to keys of the primary.
pub struct Read {
    kind: &'static Kind,
    follow: Follow,
}

/// Starts to follow a kind for a controller's queue.
type Follow = Box<dyn Fn(&Context, &WorkQueue) + Send + Sync>;

impl Read {
    /// Objects whose controller is an object of kind `P`: a change looks at that owner again.
    pub fn owned<T: Typed, P: Typed>() -> Self {
        Self::mapped::<T>(|change, _, keys| {
            for object in [&change.old, &change.new].into_iter().flatten() {
                if let Some(owner) = api::owner::controller_of(&**object)
                    && owner.kind == P::KIND.kind
                    && owner.api_version.split('/').next() == P::KIND.api_version.split('/').next()
                {
                    keys.insert(match object.namespace() {
                        "" => owner.name.clone(),
                        namespace => format!("{namespace}/{}", owner.name),
                    });
                }
            }
        })
    }

    /// Objects whose changes concern the keys that `map` adds to the set.
    pub fn mapped<T: Typed>(map: fn(&Change<T>, &Reflectors, &mut BTreeSet<String>)) -> Self {
        Self::selected("", map)
    }

    /// As [`Read::mapped`] for the objects that a field selector matches; see [`View::selected`].
    pub fn selected<T: Typed>(
        field_selector: &'static str,
        map: fn(&Change<T>, &Reflectors, &mut BTreeSet<String>),
    ) -> Self {
        Self {
            kind: T::KIND,
            follow: Box::new(move |context, queue| {
                let mut changes = context.reflectors.selected::<T>(field_selector).subscribe();
                let (queue, reflectors) = (queue.clone(), context.reflectors.clone());
                context.tasks.spawn("controller reads", async move {
                    loop {
                        let mut keys = BTreeSet::new();
                        for change in changes.next().await {
                            map(&change, &reflectors, &mut keys);
                        }
                        for key in keys {
                            queue.add(&key);
                        }
                    }
                });
            }),
        }
    }

    /// Objects that plans look at, but whose changes call for nothing.
    pub fn only<T: Typed>() -> Self {
        Self { kind: T::KIND, follow: Box::new(|context, _| drop(context.reflectors.of::<T>())) }
    }

    /// The CAs that pods check the API server with: at the start, and whenever others are trusted, the keys of kind `P`
    /// that `map` adds to the set are looked at.
    pub fn root_ca<P: Typed>(map: fn(&str, &Reflectors, &mut BTreeSet<String>)) -> Self {
        Self {
            kind: P::KIND,
            follow: Box::new(move |context, queue| {
                let mut root_ca = context.facts.root_ca.clone();
                let (queue, reflectors) = (queue.clone(), context.reflectors.clone());
                context.tasks.spawn("controller reads", async move {
                    loop {
                        let mut keys = BTreeSet::new();
                        map(&root_ca.borrow_and_update(), &reflectors, &mut keys);
                        for key in keys {
                            queue.add(&key);
                        }
                        if root_ca.changed().await.is_err() {
                            return;
                        }
                    }
                });
            }),
        }
    }

    pub(super) fn kind(&self) -> &'static Kind {
        self.kind
    }

    pub(super) fn follow(&self, context: &Context, queue: &WorkQueue) {
        (self.follow)(context, queue);
    }
}

/// Changes of the primary kind look at the object itself.
pub(super) fn follow<T: Typed>(context: &Context, queue: &WorkQueue, name: &'static str, field_selector: &'static str) {
    let mut changes = context.reflectors.selected::<T>(field_selector).subscribe();
    let queue = queue.clone();
    context.tasks.spawn(name, async move {
        loop {
            for change in changes.next().await {
                queue.add(&change.key);
            }
        }
    });
}

/// What a plan may look at. Objects are shared: clone one to change it.
pub struct View<'a> {
    pub(super) reflectors: &'a Reflectors,
    /// Uids this key's last plan deleted.
    pub(super) gone: &'a BTreeSet<String>,
    /// Why this key's last plan was not carried out to its end.
    pub(super) failure: Option<&'a str>,
    pub(super) facts: &'a Facts,
    pub(super) served: Option<Arc<Discovered>>,
    pub(super) answers: Vec<(Target, Answered)>,
}

/// What the API said of one object that was asked for.
pub type Answered = Result<Arc<dyn Object>, Error>;

impl<'a> View<'a> {
    /// A view for tests and for services that are no [`super::Controller`].
    pub fn new(reflectors: &'a Reflectors, gone: &'a BTreeSet<String>, facts: &'a Facts) -> Self {
        Self { reflectors, gone, failure: None, facts, served: None, answers: Vec::new() }
    }

    /// What is served, as far as that is known.
    pub fn served(&self) -> Option<&Discovered> {
        self.served.as_deref()
    }

    /// What the API said to one of the controller's `asks`; `None` if it was not asked.
    pub fn answer(&self, target: &Target) -> Option<&Answered> {
        self.answers.iter().find(|(asked, _)| asked == target).map(|(_, answered)| answered)
    }

    /// What cannot be read from the API.
    pub fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// Why this key's last plan was not carried out to its end, if it was not: for conditions that tell the user.
    pub fn failure(&self) -> Option<&'a str> {
        self.failure
    }

    /// The object with that key (`namespace/name`, or `name`).
    pub fn get<T: Typed>(&self, key: &str) -> Option<Arc<T>> {
        self.reflectors.of::<T>().get(key).filter(|object| self.sees(&**object))
    }

    /// As [`View::get`], among the objects that a field selector matches.
    pub fn selected<T: Typed>(&self, field_selector: &'static str, key: &str) -> Option<Arc<T>> {
        self.reflectors.selected::<T>(field_selector).get(key).filter(|object| self.sees(&**object))
    }

    /// The objects of one namespace.
    pub fn in_namespace<T: Typed>(&self, namespace: &str) -> Vec<Arc<T>> {
        let mut objects = self.reflectors.of::<T>().in_namespace(namespace);
        objects.retain(|object| self.sees(&**object));
        objects
    }

    /// All objects, those just deleted by this controller included.
    pub fn all<T: Typed>(&self) -> Snapshot<T> {
        self.reflectors.of::<T>().snapshot()
    }

    /// The objects whose controller has that uid.
    pub fn owned<T: Typed>(&self, uid: &str) -> Vec<Arc<T>> {
        let mut objects = self.reflectors.of::<T>().index(controller_uid::<T>).get(uid);
        objects.retain(|object| self.sees(&**object));
        objects
    }

    /// The pods bound to a node.
    pub fn on_node(&self, node: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.reflectors.of::<Pod>().index(node_of).get(node);
        pods.retain(|pod| self.sees(&**pod));
        pods
    }

    fn sees(&self, object: &dyn Object) -> bool {
        !self.gone.contains(object.uid())
    }
}

/// The node a pod is bound to, for an index.
pub fn node_of(pod: &Pod) -> Vec<String> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).into_iter().collect()
}

fn controller_uid<T: Typed>(object: &T) -> Vec<String> {
    api::owner::controller_of(object).map(|owner| owner.uid.clone()).into_iter().collect()
}
