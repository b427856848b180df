/**
 * The calls into the native library. This package is no API, and changes without notice.
 */
package alluxio.membership.bridge.internal;
