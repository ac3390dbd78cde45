import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "sqlite",
  schema: "./functions/db/gateway-schema.ts",
  out: "./migrations/gateway",
});
