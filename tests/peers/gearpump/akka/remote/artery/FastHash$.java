package akka.remote.artery;

/**
 * Stands in front of a class of Akka 2.4 that reads the characters of a string as Java 8 keeps
 * them, and on later ones fails before a worker is registered. Only paths of actors are hashed.
 */
public final class FastHash$ {
  public static final FastHash$ MODULE$ = new FastHash$();

  public int ofString(String text) {
    int hash = text.hashCode();
    return hash ^ (hash >>> 16);
  }
}
