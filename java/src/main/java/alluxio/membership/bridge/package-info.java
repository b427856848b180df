/**
 * Access to the worker membership of an Alluxio cluster, for any JVM program.
 *
 * <p>{@link alluxio.membership.bridge.Membership#open} opens a manager for one cluster. The manager
 * lists workers, waits for changes, reports them to listeners, and keeps workers of this process
 * registered. No class of Alluxio is needed.
 */
package alluxio.membership.bridge;
