import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "sqlite",
  schema: "./functions/db/kms-schema.ts",
  out: "./migrations/kms",
});
