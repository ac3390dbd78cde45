CREATE TABLE `cvm_events` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`cvm_id` text NOT NULL,
	`event` text NOT NULL,
	`body` text NOT NULL,
	`timestamp_ms` integer NOT NULL,
	FOREIGN KEY (`cvm_id`) REFERENCES `cvms`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `cvm_events_by_cvm` ON `cvm_events` (`cvm_id`,`id`);--> statement-breakpoint
CREATE TABLE `cvm_runs` (
	`cvm_id` text PRIMARY KEY NOT NULL,
	`pid` integer NOT NULL,
	`start_ticks` text NOT NULL,
	`host_boot_id` text NOT NULL,
	`accelerator` text NOT NULL,
	`tee` text NOT NULL,
	`agent_port` integer NOT NULL,
	`guest_api_port` integer NOT NULL,
	`started_at_ms` integer NOT NULL,
	`exited_at_ms` integer,
	FOREIGN KEY (`cvm_id`) REFERENCES `cvms`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE TABLE `cvms` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`app_id` text NOT NULL,
	`compose_hash` text NOT NULL,
	`image` text NOT NULL,
	`vcpu` integer NOT NULL,
	`memory_mib` integer NOT NULL,
	`disk_gib` integer NOT NULL,
	`port_mappings` text NOT NULL,
	`kms_urls` text NOT NULL,
	`gateway_urls` text NOT NULL,
	`networks` text NOT NULL,
	`no_tee` integer NOT NULL,
	`started` integer NOT NULL,
	`removing` integer NOT NULL,
	`host_api_token` text NOT NULL,
	`instance_id` text NOT NULL,
	`boot_progress` text NOT NULL,
	`boot_error` text NOT NULL,
	`shutdown_progress` text NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `simulated_tds` (
	`cvm_id` text PRIMARY KEY NOT NULL,
	`mr_td` text NOT NULL,
	`mr_config_id` text NOT NULL,
	`rtmr0` text NOT NULL,
	`rtmr1` text NOT NULL,
	`rtmr2` text NOT NULL,
	`rtmr3` text NOT NULL,
	`ccel` blob NOT NULL,
	FOREIGN KEY (`cvm_id`) REFERENCES `cvms`(`id`) ON UPDATE no action ON DELETE cascade
);
