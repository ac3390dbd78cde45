CREATE TABLE `kms_decisions` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`decided_at_ms` integer NOT NULL,
	`request_id` text NOT NULL,
	`method` text NOT NULL,
	`outcome` text NOT NULL,
	`reason` text NOT NULL,
	`detail` text NOT NULL,
	`tee` text NOT NULL,
	`simulated` integer NOT NULL,
	`trust_anchor` text NOT NULL,
	`app_id` text NOT NULL,
	`instance_id` text NOT NULL,
	`compose_hash` text NOT NULL,
	`device_id` text NOT NULL,
	`os_image_hash` text NOT NULL,
	`mr_system` text NOT NULL,
	`mr_aggregated` text NOT NULL,
	`tcb_status` text NOT NULL,
	`advisory_ids` text NOT NULL,
	`evidence_digest` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `kms_decisions_app_id` ON `kms_decisions` (`app_id`,`id`);