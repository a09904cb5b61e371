//! `Loops.Apply`: validate, then create or update by a compare-and-swap; the same request again
//! gives the same answer.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use flyball_core::ambient::Ambient;
use flyball_core::ids::{LoopKey, LoopUid};
use flyball_core::manifest::{FieldError, MANIFEST_BYTES_MAX, parse_manifest, validate};
use flyball_core::resource::{RepoId, ResourceSet, canonical_repo_id};
use flyball_core::spec::{LoopSpec, Manifest, SecretSpec};
use flyball_core::status::{LoopStatus, Reason};
use flyball_proto::v1::{ApplyRequest, ApplyResponse, LoopObject};
use flyball_store::{Change, CreateLoop, LoopRecord, StoreError, Stored, Update};
use tonic::{Code, Status};
use tracing::Instrument;

use super::Api;
use super::documents::object;
use super::error::{contended, invalid, invalid_field, of_store, status};
use crate::findings::STORE_FULL;
use crate::reactor::Event;

/// Tries against others who write the same loop, or against answers that were lost.
const TRIES_MAX: u32 = 8;

/// A loop as it is in the store.
type Found = (Stored<Arc<LoopRecord>>, Option<Stored<Arc<LoopStatus>>>);

/// A valid request.
struct Wanted {
    key: LoopKey,
    manifest: Manifest,
    set: ResourceSet,
    traceparent: String,
    expected_generation: u64,
    dry_run: bool,
}

/// What has become of it.
struct Applied {
    object: LoopObject,
    outcome: &'static str,
}

impl Api {
    pub(super) async fn apply_manifest(
        &self,
        request: ApplyRequest,
    ) -> Result<ApplyResponse, Status> {
        let span = tracing::info_span!("loop.submit", flyball.r#loop = tracing::field::Empty);
        // Before the span is entered: afterwards it has started and takes no parent.
        flyball_telemetry::continue_trace(&span, &request.traceparent);
        self.submit(request).instrument(span).await
    }

    async fn submit(&self, request: ApplyRequest) -> Result<ApplyResponse, Status> {
        let wanted = check(&request, &self.about.ambient)?;
        tracing::Span::current().record("flyball.loop", wanted.key.to_string());
        let applied = self.create_or_update(&wanted).await?;
        let mut warnings = self.agent_doubts(&wanted.manifest).await?;
        warnings.extend(self.warnings(&wanted.key, wanted.manifest.spec).await?);
        let (object, outcome) = (Some(applied.object), applied.outcome.to_owned());
        Ok(ApplyResponse { object, outcome, warnings })
    }

    async fn create_or_update(&self, wanted: &Wanted) -> Result<Applied, Status> {
        // Made once, so that a create whose answer was lost finds itself.
        let uid = self.new_uid();
        if self.seems_new(wanted).await?
            && let Some(applied) = self.create(wanted, &uid).await?
        {
            return Ok(applied);
        }
        for _ in 0..TRIES_MAX {
            let found = self.store.get_loop(&wanted.key).await.map_err(|error| of_store(&error))?;
            let tried = match found {
                None => self.create(wanted, &uid).await,
                Some(found) if found.0.value.uid == uid => {
                    let status = found.1.map(|status| status.value).unwrap_or_default();
                    let object = object(&found.0.value, &status);
                    Ok(Some(Applied { object, outcome: "created" }))
                }
                Some(found) => self.update(wanted, found).await,
            };
            if let Some(applied) = tried? {
                return Ok(applied);
            }
        }
        Err(contended(&format!("loop {}", wanted.key)))
    }

    fn new_uid(&self) -> LoopUid {
        let id = uuid::Builder::from_random_bytes(self.about.ambient.bytes()).into_uuid();
        LoopUid(id.to_string())
    }

    /// True when a create is worth trying without a look at the store first: the view does not know
    /// the loop, and the create itself compares.
    async fn seems_new(&self, wanted: &Wanted) -> Result<bool, Status> {
        if wanted.dry_run || wanted.expected_generation != 0 {
            return Ok(false);
        }
        let key = wanted.key.clone();
        Ok(self.core.ask(move |reactor, _| reactor.loop_view(&key).is_none()).await?)
    }

    /// `None`: somebody was faster, or the answer was lost; look again.
    async fn create(&self, wanted: &Wanted, uid: &LoopUid) -> Result<Option<Applied>, Status> {
        if wanted.expected_generation != 0 {
            return Err(wrong_generation(&wanted.key, wanted.expected_generation, 0));
        }
        let record = LoopRecord {
            key: wanted.key.clone(),
            uid: uid.clone(),
            generation: 1,
            labels: wanted.manifest.metadata.labels.clone(),
            created_at: self.about.ambient.now(),
            spec: wanted.manifest.spec.clone(),
            spec_digest: digest(&wanted.manifest.spec),
            traceparent: wanted.traceparent.clone(),
            cancel: None,
            delete: false,
        };
        let status = LoopStatus {
            reason: Reason::Submitted,
            observed_generation: 1,
            since: Some(record.created_at),
            ..LoopStatus::default()
        };
        let applied = Applied { object: object(&record, &status), outcome: "created" };
        if wanted.dry_run {
            return Ok(Some(applied));
        }
        // etcd counts no puts in nested transactions, which batches are made of, so it would let this
        // one pass.
        if self.findings.holds(STORE_FULL) {
            return Err(of_store(&StoreError::OutOfSpace {
                why: "nothing was written".to_owned(),
            }));
        }
        match self.submitter.create(Arc::new(record), Arc::new(status)).await {
            Ok(CreateLoop::Created { .. }) => Ok(Some(applied)),
            Ok(CreateLoop::Exists(_)) | Err(StoreError::Unknown { .. }) => Ok(None),
            Err(error) => Err(of_store(&error)),
        }
    }

    /// `None`: somebody was faster, or the answer was lost; look again.
    async fn update(&self, wanted: &Wanted, found: Found) -> Result<Option<Applied>, Status> {
        let (stored, found_status) = found;
        let old = &stored.value;
        let observed = found_status.as_ref().map(|status| status.value.clone()).unwrap_or_default();
        // One generation on with the very content that is wanted: the answer to this request was lost.
        let repeated = wanted.expected_generation.checked_add(1) == Some(old.generation)
            && old.spec == wanted.manifest.spec
            && old.labels == wanted.manifest.metadata.labels;
        let expected = wanted.expected_generation;
        if expected != 0 && expected != old.generation && !repeated {
            return Err(wrong_generation(&wanted.key, wanted.expected_generation, old.generation));
        }
        if old.delete {
            let message =
                format!("loop {} is being deleted; try again when it is gone", wanted.key);
            return Err(status(Code::FailedPrecondition, "BEING_DELETED", message));
        }
        let labels = &wanted.manifest.metadata.labels;
        let same_spec = old.spec == wanted.manifest.spec;
        if same_spec && old.labels == *labels {
            let object = object(old, &observed);
            return Ok(Some(Applied { object, outcome: "unchanged" }));
        }
        let moves = !same_spec
            && (set_of(&old.spec) != Some(&wanted.set).cloned()
                || repository_of(&old.spec) != repository_of(&wanted.manifest.spec));
        if moves && observed.phase.is_owned() {
            let message = format!(
                "loop {} is {} and owns its resources; a change of its resource set or of its \
                 repository has to wait until it has ended, or cancel it first",
                wanted.key, observed.phase
            );
            return Err(status(Code::FailedPrecondition, "RESOURCES_IN_USE", message));
        }
        let mut record = LoopRecord::clone(old);
        record.labels.clone_from(labels);
        if !same_spec && only_budget_differs(&old.spec, &wanted.manifest.spec) {
            // What was proven stays proven: the loop goes on where it is.
            record.spec = wanted.manifest.spec.clone();
            record.spec_digest = digest(&record.spec);
        } else if !same_spec {
            record.spec = wanted.manifest.spec.clone();
            record.spec_digest = digest(&record.spec);
            record.generation += 1;
            // A new spec is a new wish, also for a loop that had been cancelled.
            record.cancel = None;
            record.traceparent.clone_from(&wanted.traceparent);
        }
        let applied = Applied { object: object(&record, &observed), outcome: "configured" };
        if wanted.dry_run {
            return Ok(Some(applied));
        }
        // It must not have been assigned since with what it owned before.
        let unowned = found_status.filter(|_| moves).map(|status| status.mod_revision);
        Ok(self.put_loop(record, &stored, unowned).await?.then_some(applied))
    }

    /// Writes a changed record, if `unowned` is given only while the status is at that revision, and
    /// tells the reactor. False: somebody was faster; look again.
    pub(super) async fn put_loop(
        &self,
        record: LoopRecord,
        stored: &Stored<Arc<LoopRecord>>,
        unowned: Option<i64>,
    ) -> Result<bool, Status> {
        match self.store.update_loop(&record, stored.mod_revision, unowned).await {
            Ok(Update::Done { revision }) => {
                let key = record.key.clone();
                let create_revision = stored.create_revision;
                let value = Arc::new(record);
                let stored = Stored { value, mod_revision: revision, create_revision, lease: 0 };
                let changes = vec![Change::Loop(key, Some(stored))];
                self.core.tell(Event::Written { revision, changes }).await?;
                Ok(true)
            }
            // A write that was applied is found as unchanged by the next look.
            Ok(Update::Conflict(_)) | Err(StoreError::Unknown { .. }) => Ok(false),
            Err(error) => Err(of_store(&error)),
        }
    }

    /// What the user should know though the request is valid.
    async fn warnings(&self, key: &LoopKey, spec: LoopSpec) -> Result<Vec<String>, Status> {
        let mut warnings = self.missing_secrets(key, &spec).await;
        let never = self.core.ask(move |reactor, _| reactor.never_fits(&spec)).await?;
        warnings.extend(never);
        Ok(warnings)
    }

    /// Secrets that the loop names and nobody has set. Without them it is parked, so it is only a warning: it may
    /// well be applied before them.
    async fn missing_secrets(&self, key: &LoopKey, spec: &LoopSpec) -> Vec<String> {
        if spec.secrets.is_empty() {
            return Vec::new();
        }
        // What is not known is not warned of; the loop is stored already.
        let Ok(kept) = self.store.list_secrets(&key.namespace).await else { return Vec::new() };
        let known: BTreeSet<&str> = kept.iter().map(|one| one.value.key.name.as_str()).collect();
        let named = spec.secrets.iter().enumerate();
        let missing = named.filter(|(_, secret)| !known.contains(secret.name.as_str()));
        let told = missing.map(|(index, SecretSpec { name, .. })| {
            format!(
                "spec.secrets[{index}].name: there is no secret {name} in namespace {}; the loop waits until it is \
                 there: flyball secret set {name} --from-file FILE",
                key.namespace
            )
        });
        told.collect()
    }
}

fn check(request: &ApplyRequest, ambient: &Ambient) -> Result<Wanted, Status> {
    let bytes = request.manifest_json.len();
    if bytes > MANIFEST_BYTES_MAX {
        let message = format!("is {bytes} bytes long, at most {MANIFEST_BYTES_MAX} are allowed");
        return Err(invalid_field("manifest_json", message));
    }
    let json: serde_json::Value = serde_json::from_slice(&request.manifest_json)
        .map_err(|error| invalid_field("manifest_json", format!("is not JSON: {error}")))?;
    let mut manifest = parse_manifest(&json).map_err(|errors| invalid(&errors))?;
    resolve_links(&mut manifest);
    let set = validate(&manifest).map_err(|errors| invalid(&errors))?;
    let key = LoopKey::new(manifest.metadata.namespace.clone(), manifest.metadata.name.clone());
    let traceparent = if flyball_telemetry::is_traceparent(&request.traceparent) {
        request.traceparent.clone()
    } else {
        flyball_telemetry::new_traceparent(u128::from_be_bytes(ambient.bytes()), ambient.random())
    };
    let (expected_generation, dry_run) = (request.expected_generation, request.dry_run);
    Ok(Wanted { key, manifest, set, traceparent, expected_generation, dry_run })
}

/// A local repository is known by its real path, so that two ways to it are one resource. One that
/// does not exist here keeps its name: it may exist on the worker's node.
fn resolve_links(manifest: &mut Manifest) {
    let Some(workspace) = &mut manifest.spec.workspace else { return };
    let url = &mut workspace.git.url;
    let path = url.strip_prefix("file://").unwrap_or(url.as_str());
    if path.starts_with('/')
        && let Ok(real) = Path::new(path).canonicalize()
        && let Some(real) = real.to_str()
    {
        *url = real.to_owned();
    }
}

/// Whether two specs are the same but for their budgets.
fn only_budget_differs(one: &LoopSpec, other: &LoopSpec) -> bool {
    LoopSpec { budget: other.budget, ..one.clone() } == *other
}

fn repository_of(spec: &LoopSpec) -> Option<RepoId> {
    spec.workspace.as_ref().and_then(|workspace| canonical_repo_id(&workspace.git.url).ok())
}

fn set_of(spec: &LoopSpec) -> Option<ResourceSet> {
    let repository = repository_of(spec);
    ResourceSet::parse(&spec.owns, repository.as_ref()).ok()
}

fn wrong_generation(key: &LoopKey, expected: u64, found: u64) -> Status {
    let message = match found {
        0 => format!("loop {key} does not exist, but generation {expected} was expected"),
        _ => format!("loop {key} is at generation {found}, but {expected} was expected"),
    };
    status(Code::Aborted, "WRONG_GENERATION", message)
}

/// A short name of a spec's content for display; nothing is decided by it. FNV-1a, which needs no
/// library and is the same on every machine.
fn digest(spec: &LoopSpec) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let json = serde_json::to_vec(spec).unwrap_or_default();
    let hash = json.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

/// What is wrong with a name given in a request.
pub(super) fn key_of(namespace: &str, name: &str) -> Result<LoopKey, Status> {
    let namespace =
        if namespace.is_empty() { flyball_core::spec::DEFAULT_NAMESPACE } else { namespace };
    let mut errors = Vec::new();
    for (field, value) in [("namespace", namespace), ("name", name)] {
        if let Err(error) = flyball_core::ids::check_name(value) {
            errors.push(FieldError::new(field, error.to_string()));
        }
    }
    if errors.is_empty() { Ok(LoopKey::new(namespace, name)) } else { Err(invalid(&errors)) }
}
