//! The flags of the audit log, named as upstream's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use apiserver::audit::{self, log, webhook};
use clap::{ArgAction, Args};

/// What is recorded of requests, and where.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// An audit.k8s.io/v1 Policy; without one, all is at level Metadata but health checks, Events and lease renewals
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// The audit log; `-` is standard output, an empty path writes none [default: DATA_DIR/audit/audit.log]
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<String>,
    /// Days for which audit logs put aside are kept; 0: for ever
    #[arg(long, default_value = "30", value_name = "DAYS", allow_hyphen_values = true)]
    pub audit_log_maxage: i64,
    /// How many audit logs put aside are kept; 0: all
    #[arg(long, default_value = "10", value_name = "COUNT", allow_hyphen_values = true)]
    pub audit_log_maxbackup: i64,
    /// The size in megabytes at which the audit log is put aside
    #[arg(long, default_value = "100", value_name = "MEGABYTES", allow_hyphen_values = true)]
    pub audit_log_maxsize: i64,
    /// `json`, or `legacy`: one text line for each event
    #[arg(long, default_value = "json", value_name = "FORMAT")]
    pub audit_log_format: String,
    /// Whether events and batches that are too large for the audit log are cut
    #[arg(long, action = ArgAction::Set, default_value_t = false, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_name = "BOOL")]
    pub audit_log_truncate_enabled: bool,
    /// The bytes of a batch beyond which it is written in several
    #[arg(long, default_value_t = 10 << 20, value_name = "BYTES")]
    pub audit_log_truncate_max_batch_size: usize,
    /// The bytes of an event beyond which it loses its objects; if it is still longer it is lost
    #[arg(long, default_value_t = 100 << 10, value_name = "BYTES")]
    pub audit_log_truncate_max_event_size: usize,
    /// A kubeconfig of a server that takes audit events
    #[arg(long, value_name = "FILE")]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// How long before a batch of events is sent for the second time
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = apiserver::http::parse_duration)]
    pub audit_webhook_initial_backoff: Duration,
    /// Whether events and batches that are too large for the webhook are cut
    #[arg(long, action = ArgAction::Set, default_value_t = false, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_name = "BOOL")]
    pub audit_webhook_truncate_enabled: bool,
    /// The bytes of a batch beyond which it is sent in several
    #[arg(long, default_value_t = 10 << 20, value_name = "BYTES")]
    pub audit_webhook_truncate_max_batch_size: usize,
    /// The bytes of an event beyond which it loses its objects; if it is still longer it is lost
    #[arg(long, default_value_t = 100 << 10, value_name = "BYTES")]
    pub audit_webhook_truncate_max_event_size: usize,
    /// `batch`: events are sent later, several at once; serving never waits for them
    #[arg(long, default_value = "batch", value_name = "MODE")]
    pub audit_webhook_mode: String,
    /// How many events wait before further ones are lost
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    pub audit_webhook_batch_buffer_size: usize,
    /// How many events are sent at once
    #[arg(long, default_value_t = 400, value_name = "COUNT")]
    pub audit_webhook_batch_max_size: usize,
    /// How long an event waits for others
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = apiserver::http::parse_duration)]
    pub audit_webhook_batch_max_wait: Duration,
    /// Whether batches are held back when they are too many
    #[arg(long, action = ArgAction::Set, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_name = "BOOL")]
    pub audit_webhook_batch_throttle_enable: bool,
    /// Batches a second
    #[arg(long, default_value_t = 10.0, value_name = "RATE", allow_hyphen_values = true)]
    pub audit_webhook_batch_throttle_qps: f64,
    /// Batches at once after a pause
    #[arg(long, default_value_t = 15, value_name = "COUNT")]
    pub audit_webhook_batch_throttle_burst: u32,
}

impl AuditArgs {
    /// What the flags ask for; `standard`: the log if no other is named.
    ///
    /// # Errors
    /// What is wrong with them, in upstream's words.
    pub fn options(&self, standard: &Path) -> Result<audit::Options> {
        let policy = match &self.audit_policy_file {
            None => audit::Policy::standard(),
            Some(file) => audit::load_policy(file).map_err(|why| anyhow!(why))?,
        };
        let count = |flag: &str, value: i64| {
            if value < 0 {
                return Err(anyhow!("--{flag} {value} can't be a negative number"));
            }
            Ok(u32::try_from(value).unwrap_or(u32::MAX))
        };
        let truncate = |backend: &str, enabled: bool, batch_bytes_max: usize, event_bytes_max: usize| {
            let own = audit::Truncate { event_bytes_max, batch_bytes_max };
            own.check(backend).map_err(|why| anyhow!(why)).map(|()| enabled.then_some(own))
        };
        let path = self.audit_log_path.as_deref().map_or(standard, Path::new);
        let log = log::Options {
            path: path.to_owned(),
            age_max_days: count("audit-log-maxage", self.audit_log_maxage)?,
            backups_max: count("audit-log-maxbackup", self.audit_log_maxbackup)?,
            size_max_mb: count("audit-log-maxsize", self.audit_log_maxsize)?,
            format: self.audit_log_format.parse().map_err(|why: String| anyhow!(why))?,
            truncate: truncate(
                "log",
                self.audit_log_truncate_enabled,
                self.audit_log_truncate_max_batch_size,
                self.audit_log_truncate_max_event_size,
            )?,
        };
        if self.audit_webhook_mode != "batch" {
            let mode = &self.audit_webhook_mode;
            return Err(anyhow!(
                "invalid audit webhook mode {mode}, allowed modes are \"batch\": serving does not wait for an audit backend"
            ));
        }
        let throttle = (self.audit_webhook_batch_throttle_qps, self.audit_webhook_batch_throttle_burst);
        let options = webhook::Options {
            buffer_len_max: self.audit_webhook_batch_buffer_size,
            batch_len_max: self.audit_webhook_batch_max_size,
            batch_wait_max: self.audit_webhook_batch_max_wait,
            throttle: self.audit_webhook_batch_throttle_enable.then_some(throttle),
            initial_backoff: self.audit_webhook_initial_backoff,
            truncate: truncate(
                "webhook",
                self.audit_webhook_truncate_enabled,
                self.audit_webhook_truncate_max_batch_size,
                self.audit_webhook_truncate_max_event_size,
            )?,
        };
        options.check().map_err(|why| anyhow!(why))?;
        Ok(audit::Options {
            policy,
            log: (!path.as_os_str().is_empty()).then_some(log),
            webhook: self.audit_webhook_config_file.clone().map(|file| (file, options)),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        audit: AuditArgs,
    }

    fn options(flags: &[&str]) -> Result<audit::Options> {
        let only = Only::try_parse_from(std::iter::once(&"pintle").chain(flags)).unwrap();
        only.audit.options(Path::new("/data/audit/audit.log"))
    }

    #[test]
    fn flags_become_options() {
        let plain = options(&[]).unwrap();
        assert_eq!(plain.log.unwrap().path, Path::new("/data/audit/audit.log"));
        assert!(plain.webhook.is_none());
        assert!(options(&["--audit-log-path="]).unwrap().log.is_none());
        let flags = ["--audit-webhook-config-file=f", "--audit-webhook-batch-throttle-enable=false"];
        let (file, webhook) = options(&flags).unwrap().webhook.unwrap();
        assert_eq!((file.as_path(), webhook.throttle, webhook.truncate), (Path::new("f"), None, None));
        let flags = ["--audit-log-truncate-enabled", "--audit-log-truncate-max-event-size=7"];
        let truncate = audit::Truncate { event_bytes_max: 7, ..audit::Truncate::default() };
        assert_eq!(options(&flags).unwrap().log.unwrap().truncate, Some(truncate));
    }

    #[test]
    fn wrong_flags_are_refused_in_upstreams_words() {
        let say = |flag: &str| options(&[flag]).map(drop).unwrap_err().to_string();
        assert_eq!(say("--audit-log-maxage=-1"), "--audit-log-maxage -1 can't be a negative number");
        assert_eq!(say("--audit-log-format=xml"), "invalid audit log format xml, allowed formats are \"legacy,json\"");
        assert!(say("--audit-webhook-mode=blocking").starts_with("invalid audit webhook mode blocking"));
        assert_eq!(
            say("--audit-webhook-batch-max-size=0"),
            "invalid audit batch webhook max batch size 0, must be a positive number"
        );
        assert_eq!(
            say("--audit-log-truncate-max-event-size=0"),
            "invalid audit truncate log max event size 0, must be a positive number"
        );
        assert_eq!(
            say("--audit-webhook-truncate-max-batch-size=9"),
            "invalid audit truncate webhook max batch size 9, must be greater than max event size (102400)"
        );
        let missing = say("--audit-policy-file=/nonexistent/policy.yaml");
        assert!(missing.starts_with("loading audit policy file: failed to read file path"), "{missing}");
    }
}
