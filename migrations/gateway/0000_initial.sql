CREATE TABLE `gateway_certificates` (
	`domain` text PRIMARY KEY NOT NULL,
	`fingerprint` text NOT NULL,
	`not_after` integer NOT NULL,
	`issued_by` integer NOT NULL,
	`loaded_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `gateway_domains` (
	`domain` text PRIMARY KEY NOT NULL,
	`port` integer NOT NULL,
	`node_id` integer,
	`priority` integer NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `gateway_events` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`at_ms` integer NOT NULL,
	`node_id` integer NOT NULL,
	`kind` text NOT NULL,
	`app_id` text NOT NULL,
	`instance_id` text NOT NULL,
	`reason` text NOT NULL,
	`detail` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `gateway_events_instance` ON `gateway_events` (`instance_id`,`id`);--> statement-breakpoint
CREATE TABLE `gateway_instances` (
	`instance_id` text PRIMARY KEY NOT NULL,
	`app_id` text NOT NULL,
	`address` text NOT NULL,
	`public_key` text NOT NULL,
	`registered_at` integer NOT NULL,
	`compose_hash` text NOT NULL,
	`reported_policy` text,
	`admin_policy` text,
	`last_handshake` integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `gateway_instances_address` ON `gateway_instances` (`address`);--> statement-breakpoint
CREATE UNIQUE INDEX `gateway_instances_public_key` ON `gateway_instances` (`public_key`);--> statement-breakpoint
CREATE INDEX `gateway_instances_app_id` ON `gateway_instances` (`app_id`);--> statement-breakpoint
CREATE TABLE `gateway_nodes` (
	`id` integer PRIMARY KEY NOT NULL,
	`uuid` text NOT NULL,
	`url` text NOT NULL,
	`wg_public_key` text NOT NULL,
	`wg_address` text NOT NULL,
	`wg_endpoint` text NOT NULL,
	`status` text DEFAULT 'up' NOT NULL,
	`last_seen` integer NOT NULL
);
