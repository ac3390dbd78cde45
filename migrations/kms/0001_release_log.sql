CREATE TABLE `kms_epochs` (
	`epoch` integer PRIMARY KEY NOT NULL,
	`ca_public_key` text NOT NULL,
	`k256_public_key` text NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `kms_instance_epochs` (
	`app_id` text NOT NULL,
	`instance_id` text NOT NULL,
	`epoch` integer NOT NULL,
	`updated_at_ms` integer NOT NULL,
	PRIMARY KEY(`app_id`, `instance_id`)
);
--> statement-breakpoint
CREATE TABLE `kms_log_tiles` (
	`tile` integer PRIMARY KEY NOT NULL,
	`hash` text NOT NULL
);
--> statement-breakpoint
ALTER TABLE `kms_decisions` ADD `rule` text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE `kms_decisions` ADD `epoch` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `kms_decisions` ADD `block_number` integer;--> statement-breakpoint
ALTER TABLE `kms_decisions` ADD `block_hash` text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE `kms_decisions` ADD `leaf_hash` text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE `kms_decisions` ADD `chain_hash` text DEFAULT '' NOT NULL;