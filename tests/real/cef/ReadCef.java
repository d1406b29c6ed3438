import com.fluenda.parcefone.event.CommonEvent;
import com.fluenda.parcefone.parser.CEFParser;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.util.Date;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/** Reads one CEF message a line and writes what the parser makes of it: one JSON object a line, all values as text. */
public final class ReadCef {
    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        CEFParser parser = new CEFParser();
        StringBuilder message = new StringBuilder();
        // Only LF ends a line: what else some reader may take for one must not stand in a message.
        for (int read = in.read(); read >= 0; read = in.read()) {
            if (read == '\n') {
                out.println(said(parser, message.toString()));
                message.setLength(0);
            } else {
                message.append((char) read);
            }
        }
        out.flush();
    }

    private static String said(CEFParser parser, String message) {
        Map<String, Object> values = new TreeMap<>();
        try {
            CommonEvent event = parser.parse(message, false, false, Locale.ROOT);
            if (event == null) {
                return "{\"error\":\"no CEF\"}";
            }
            values.putAll(event.getHeader());
            values.putAll(event.getExtension(true));
        } catch (Exception error) {
            return "{\"error\":" + quoted(error.toString()) + "}";
        }
        StringBuilder json = new StringBuilder("{");
        for (Map.Entry<String, Object> entry : values.entrySet()) {
            json.append(json.length() > 1 ? "," : "").append(quoted(entry.getKey())).append(":").append(quoted(text(entry.getValue())));
        }
        return json.append("}").toString();
    }

    private static String text(Object value) {
        if (value instanceof Date) {
            return Long.toString(((Date) value).getTime());
        }
        return value instanceof InetAddress ? ((InetAddress) value).getHostAddress() : String.valueOf(value);
    }

    private static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }
}
