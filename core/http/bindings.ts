/** What a server adapter tells handlers about the connection, as `c.env` of a Hono app. */
export interface ConnectionBindings {
  /**
   * DER of the certificate the client presented and holds the key of. It chained to the server's
   * client CA; what else it claims is for the handler to verify. Absent without one.
   */
  readonly peerCertificate?: Uint8Array;
  /** IP address; absent on unix sockets. */
  readonly remoteAddress?: string;
}

/** The `fetch` of a Hono app whose Bindings are ConnectionBindings. */
export type ServerFetch = (
  request: Request,
  bindings: ConnectionBindings,
) => Response | Promise<Response>;
