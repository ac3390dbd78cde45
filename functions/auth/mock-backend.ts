import { AppError } from "#core/errors/app-error.ts";
import type { AuthBackend } from "./backend.ts";

const ZERO_ADDRESS = `0x${"0".repeat(40)}`;

/** Allows everything; for development images only: throws `config/invalid` on any other. */
export function mockBackend(gatewayAppId: string, isDevImage: boolean): AuthBackend {
  if (!isDevImage) {
    throw new AppError(
      "config/invalid",
      'backend = "mock" allows everything: it runs in development images only',
    );
  }
  return {
    name: "mock",
    decide: (role) =>
      Promise.resolve({
        isAllowed: true,
        gatewayAppId,
        reason: role === "kms" ? "mock KMS always allowed" : "mock app always allowed",
        rule: "mock",
      }),
    info: () =>
      Promise.resolve({
        kmsContractAddr: ZERO_ADDRESS,
        ethRpcUrl: "",
        gatewayAppId,
        chainId: 0,
        appImplementation: ZERO_ADDRESS,
      }),
  };
}
