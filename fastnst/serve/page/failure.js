// What can go wrong, told apart by a code that outlives the way from one thread to another.

export class Failure extends Error {
  /** `code`: canceled, again, large, model, picture, runtime, disagrees, network, server, token, busy. */
  constructor(code, message, details = {}) {
    super(message);
    this.code = code;
    Object.assign(this, details);
  }

  /** As a plain object, and back. */
  static packed(error) {
    const { code = "runtime", message, limit, pixels, crashed } = error;
    return { code, message: String(message ?? error), limit, pixels, crashed };
  }

  static unpacked({ code, message, ...details }) {
    return new Failure(code, message, details);
  }
}

export const canceled = () => new Failure("canceled", "canceled");
